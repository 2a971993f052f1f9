; Loaded at 2 MiB: reads a Linux kernel and its first file system from the disk, makes what the kernel's 64-bit boot
; protocol wants and enters it. The disk has the two files, each in whole sectors. Given with -D: VMLINUZ, the kernel's
; file; SKIP, how many of its bytes are not on the disk (its 16-bit part); FILES, bytes of the file system; MEMORY,
; bytes there are; ARGUMENTS, the kernel's.
; nasm -f bin linux.asm -o linux.bin
        bits 64
        org 0x200000
kernel  equ 0x1000000
files   equ 0x8000000
acpi    equ MEMORY - 0x100000   ; the BIOS has its tables at the end of memory
        cli
        xor ebx, ebx
        mov rdi, kernel
.more:  call sector
        inc ebx
        cmp ebx, [sectors]
        jb .more
        mov rdi, files
        mov ebp, [sectors]
        add ebp, (FILES + 511) / 512
.rest:  call sector
        inc ebx
        cmp ebx, ebp
        jb .rest
        mov rsi, params
        mov byte [rsi + 0x210], 0xff    ; a loader without a number
        mov dword [rsi + 0x218], files
        mov dword [rsi + 0x21c], FILES
        mov dword [rsi + 0x228], arguments
        mov rax, kernel + 0x200
        jmp rax
%include "disk.asm"
        align 4
sectors: dd KERNEL / 512
arguments:
        db ARGUMENTS, 0
        align 4096
params: times 0x1e8 db 0
        db 4                            ; parts of the memory
        times params + 0x1f1 - $ db 0
        incbin VMLINUZ, 0x1f1, 0x7b     ; the kernel's own header
        times params + 0x2d0 - $ db 0
        dq 0, 0x9fc00                   ; where, how many bytes, and what: 1 is memory, 2 not to be touched, 3 tables
        dd 1
        dq 0xe0000, 0x20000
        dd 2
        dq 0x100000, acpi - 0x100000
        dd 1
        dq acpi, 0x100000
        dd 3
        times params + 4096 - $ db 0
