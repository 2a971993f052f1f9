; Runs the cases of the disk and prints to the debug port that it begins, failures by number and first byte that
; differs, and how many cases there were.
; The disk: how many sectors follow the first one; cases, as `compiler/testing/src/emulate.rs` writes them; zeros.
; Each case's memory is copied to 256 MiB, its calls are made, and the memory is compared with what it must be.
; nasm -f bin runner.asm -o runner.bin
        bits 64
        org 0x200000
memory  equ 0x10000000
        mov rdi, 0x20000000     ; the cases come from the disk, as many sectors as the first word says
        xor ebx, ebx
        call sector
        mov rax, 0x20000000
        mov rbp, [rax]
more:   inc ebx
        call sector
        cmp rbx, rbp
        jb more
        mov rsi, begin
        call text
        mov r12, 0x20000200     ; the case
        xor r13d, r13d          ; its number
        xor r14d, r14d          ; how many failed
next:   mov rax, [r12]          ; its length
        test rax, rax
        jz end
        lea r15, [r12 + 64]     ; the code
        mov rsi, r15
        add rsi, [r12 + 8]
        mov rcx, [r12 + 16]
        mov rdi, memory
        rep movsb
        mov rbx, [r12 + 16]     ; the calls stand after the memory of afterwards
        add rbx, rsi
        mov rbp, [r12 + 24]     ; how many there are left
calls:  test rbp, rbp
        jz compare
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov [saved], rsp
        mov rax, [rbx + 8]      ; arguments after the sixth go to the stack, the last one first
.more:  cmp rax, 6
        jbe .rest
        push qword [rbx + 8 + rax * 8]
        dec rax
        jmp .more
.rest:  add r15, [rbx]
        mov rdi, [rbx + 16]
        mov rsi, [rbx + 24]
        mov rdx, [rbx + 32]
        mov rcx, [rbx + 40]
        mov r8, [rbx + 48]
        mov r9, [rbx + 56]
        mov [stack], rsp
        mov rax, r15
        mov ebx, 0xb1           ; what must be the same after the call
        mov ebp, 0xb2
        mov r12d, 0xb3
        mov r13d, 0xb4
        mov r14d, 0xb5
        mov r15d, 0xb6
        call rax
        mov rax, rsp
        mov rsp, [saved]
        cmp rax, [stack]
        jne bad
        lea rax, [rbx - 0xb1]
        lea rcx, [rbp - 0xb2]
        or rax, rcx
        lea rcx, [r12 - 0xb3]
        or rax, rcx
        lea rcx, [r13 - 0xb4]
        or rax, rcx
        lea rcx, [r14 - 0xb5]
        or rax, rcx
        lea rcx, [r15 - 0xb6]
        or rax, rcx
        jnz bad
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        add rbx, 192
        dec rbp
        jmp calls
compare:
        mov rsi, r15
        add rsi, [r12 + 8]
        add rsi, [r12 + 16]
        mov rdi, memory
        mov rcx, [r12 + 16]
        repe cmpsb
        je done
        sub rdi, memory + 1     ; the first byte that differs
        jmp report
bad:    pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        mov rdi, -1             ; the stack or a register that the callee saves
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
        add r12, [r12]
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
%include "disk.asm"
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
begin:  db "running", 10, 0
cases:  db " cases, ", 0
failed: db " failed", 10, 0
        align 8
saved:  dq 0
stack:  dq 0
