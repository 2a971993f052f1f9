; Runs the cases of the disk and prints to the debug port how each went: failures by number and first byte that differs.
; The disk: how many sectors follow the first one; cases. A case: 64-bit words of the lengths of code, source and destination
; (0 ends the list), then, each padded to 64 bytes, the code, the source and what the destination must be. The tile is called
; with the source and a destination at 128 MiB that is filled with 7s and has guards on both sides.
; nasm -f bin runner.asm -o runner.bin
        bits 64
        org 0x200000
        mov rdi, 0x400000       ; the cases come from the disk, as many sectors as the first word says
        xor ebx, ebx
        call sector
        mov rbp, [0x400000]
more:   inc ebx
        call sector
        cmp rbx, rbp
        jb more
        mov r12, 0x400200       ; the case
        xor r13d, r13d          ; its number
        xor r14d, r14d          ; how many failed
next:   mov rax, [r12]
        test rax, rax
        jz end
        mov rcx, [r12 + 16]     ; the destination: 64 bytes of 0xc3 around it
        mov rdi, 0x8000000
        mov al, 0xc3
        push rcx
        add rcx, 128
        rep stosb
        pop rcx
        mov rdi, 0x8000040
        mov al, 7
        rep stosb
        lea rbx, [r12 + 64]     ; code, source, expected
        mov rbp, [r12]
        add rbp, 63
        and rbp, -64
        add rbp, rbx
        mov r15, [r12 + 8]
        add r15, 63
        and r15, -64
        add r15, rbp
        mov rdi, rbp
        mov rsi, 0x8000040
        push rbx
        push rbp
        mov [saved], rsp
        call rbx
        mov rcx, rsp            ; the stack and the saved registers must be as before
        cmp rcx, [saved]
        jne bad_stack
        pop rcx
        cmp rcx, rbp
        jne bad_regs
        pop rcx
        cmp rcx, rbx
        jne bad_regs
        mov rsi, r15
        mov rdi, 0x8000040
        mov rcx, [r12 + 16]
        repe cmpsb
        jne differs
        mov rcx, 64
        mov rdi, 0x8000000
        mov al, 0xc3
        repe scasb
        jne bad
        mov rdi, 0x8000040
        add rdi, [r12 + 16]
        mov rcx, 64
        repe scasb
        jne bad
        jmp done
bad_stack:
        mov rsp, [saved]
bad_regs:
bad:    xor edi, edi
        jmp report
differs:
        sub rdi, 0x8000041      ; the first byte that differs
report: inc r14
        mov al, '!'
        call put
        mov rax, r13
        call number
        mov al, ' '
        call put
        mov rax, rdi
        call number
        mov al, 10
        call put
done:   inc r13
        mov rax, [r12 + 16]
        add rax, 63
        and rax, -64
        lea r12, [r15 + rax]
        jmp next
end:    mov rax, r13
        call number
        mov rsi, cases
        call text
        mov rax, r14
        call number
        mov rsi, failed
        call text
        ret
sector: mov dx, 0x1f2           ; reads sector ebx to rdi, by programmed input
        mov al, 1
        out dx, al
        inc dx
        mov eax, ebx
        out dx, al
        inc dx
        shr eax, 8
        out dx, al
        inc dx
        shr eax, 8
        out dx, al
        inc dx
        mov al, 0xe0
        out dx, al
        inc dx
        mov al, 0x20
        out dx, al
.wait:  in al, dx
        test al, 0x80
        jnz .wait
        test al, 8
        jz .wait
        mov dx, 0x1f0
        mov ecx, 256
        rep insw
        ret
text:   lodsb
        test al, al
        jz .end
        call put
        jmp text
.end:   ret
put:    mov dx, 0xe9
        out dx, al
        ret
number: mov rcx, 10             ; rax in decimal
        xor edx, edx
        div rcx
        push rdx
        test rax, rax
        jz .last
        call number
.last:  pop rax
        add al, '0'
        jmp put
cases:  db " cases, ", 0
failed: db " failed", 10, 0
        align 8
saved:  dq 0
