; Reads sector ebx of the disk to rdi, by programmed input, and leaves rdi behind it.
sector: mov dx, 0x1f2
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
