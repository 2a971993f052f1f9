; The boot sector of an emulated machine: enters 64-bit mode with all vector and matrix registers enabled, and calls the
; runner at 2 MiB.
; nasm -f bin boot.asm -o boot.bin
        bits 16
        org 0x7c00
        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        in al, 0x92             ; the A20 gate
        or al, 2
        out 0x92, al
        mov edi, 0x10000 >> 4   ; page tables at 64 KiB: 4 GiB as pages of 2 MiB
        mov ax, 0x1000
        mov es, ax
        xor edi, edi
        xor eax, eax
        mov ecx, 0x6000 / 4
        rep stosd
        mov dword [es:0], 0x11003
        mov dword [es:0x1000], 0x12003
        mov dword [es:0x1008], 0x13003
        mov dword [es:0x1010], 0x14003
        mov dword [es:0x1018], 0x15003
        mov edi, 0x2000
        mov eax, 0x83
        mov ecx, 2048
.page:  mov [es:edi], eax
        add eax, 0x200000
        add edi, 8
        loop .page, ecx
        mov eax, 0x10000
        mov cr3, eax
        mov eax, cr4
        or eax, 0x40620         ; PAE, SSE and its exceptions, XSAVE
        mov cr4, eax
        mov ecx, 0xc0000080     ; long mode
        rdmsr
        or eax, 0x100
        wrmsr
        lgdt [gdtr]
        mov eax, cr0
        and eax, ~4             ; no emulation of the FPU
        or eax, 0x80000003
        mov cr0, eax
        jmp 8:long_mode
        bits 64
long_mode:
        mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, 0x1f0000
        mov eax, 0xd            ; of x87, SSE, AVX, masks, the 512-bit registers and the matrices, what there is
        xor ecx, ecx
        cpuid
        and eax, 0x600e7
        xor edx, edx
        xor ecx, ecx
        xsetbv
        mov eax, 0x200000
        call rax
        mov dx, 0x8900          ; Bochs ends at this word
        mov rsi, bye
.bye:   lodsb
        out dx, al
        test al, al
        jnz .bye
        hlt
bye:    db "Shutdown", 0
        align 8
gdt:    dq 0, 0x00209a0000000000, 0x0000920000000000
gdtr:   dw 23
        dd gdt
        times 510 - ($ - $$) db 0
        dw 0xaa55
