#!/bin/sh
# Runs a shell script, which comes from standard input, under Linux on an emulated Sapphire Rapids (Bochs 3.0):
#
#     apt-get install vgabios bochsbios nasm gcc g++ make
#     apt-get download linux-image-cloud-amd64's image and busybox-static
#     tools/emulate/bochs-3.0.sh TREE           # corrects the emulator's source; says how it is built
#     cargo test --release --workspace --no-run
#     echo 'optc hwbench; networks --test-threads=2' | \
#         BOCHS=TREE/bochs VMLINUZ=... BUSYBOX=... tools/emulate/linux.sh FOLDER \
#             target/release/optc target/release/deps/networks-*
#
# FOLDER gets what is made on the way, and what the script prints in `serial.txt`. The programs named are commands of
# the script without what Cargo adds to their names; it runs in a copy of the repository's data, at the repository's
# path, where tests look for it. The machine has one CPU that runs some 50 million instructions a second, and 2 GiB; a
# boot takes 15 seconds. CPU names another model of the emulator.
#
# Arguments of the kernel: the emulator's ACPI enters a mode of the CPU (SMM) that it does not leave, and it says that
# strings are moved fast for short ones (feature 580) but not in general, which Linux does not expect; 124 are counters
# that it does not have.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
work=$1
shift
root=$work/root
mkdir -p "$work"
work=$(cd "$work" && pwd)
rm -rf "$root" "$work/disk.img.lock" "$work/serial.txt"
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root$repository/target/tmp"
cp "$BUSYBOX" "$root/bin/busybox"
for program; do
    name=$(basename "$program" | sed 's/-[0-9a-f]\{16\}$//')
    strip -o "$root/bin/$name" "$program"
    for library in $(ldd "$program" | grep -o '/[^ ]*'); do
        mkdir -p "$root$(dirname "$library")"
        cp -Lu "$library" "$root$library"
    done
done
(cd "$repository" && tar cf - testdata tests passes/src compiler/*/tests tools/optc/tests) |
    tar xf - -C "$root$repository"
{
    echo "cd $repository"
    cat
} > "$root/script"
cat > "$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
export HOME=/tmp RUST_BACKTRACE=1
sh /script
echo "== end of the script: $?, $(cut -d ' ' -f 1 /proc/uptime) s"
sleep 1
echo b > /proc/sysrq-trigger
END
chmod +x "$root/init"
(cd "$root" && find . | "$BUSYBOX" cpio -o -H newc 2> /dev/null) > "$work/initramfs"
rm -rf "$root"
megabytes=2048
skip=$((($(od -An -tu1 -j 497 -N 1 "$VMLINUZ") + 1) * 512))
tail -c +$((skip + 1)) "$VMLINUZ" > "$work/disk.img"
truncate -s %512 "$work/disk.img"
kernel=$(stat -c %s "$work/disk.img")
cat "$work/initramfs" >> "$work/disk.img"
cylinders=$((($(stat -c %s "$work/disk.img") + 1008 * 512 - 1) / (1008 * 512)))
truncate -s $((cylinders * 1008 * 512)) "$work/disk.img"
arguments="console=ttyS0,115200 quiet nokaslr mitigations=off init_on_alloc=0 tsc=reliable"
arguments="$arguments random.trust_cpu=on acpi=off noapic reboot=t"
nasm -f bin "$here/boot.asm" -o "$work/boot.bin"
truncate -s 1474560 "$work/boot.bin"
nasm -f bin -i "$here/" "$here/linux.asm" -o "$work/linux.bin" -DVMLINUZ="'$VMLINUZ'" -DKERNEL="$kernel" \
    -DFILES="$(stat -c %s "$work/initramfs")" -DMEMORY=$((megabytes << 20)) \
    -DARGUMENTS="'$arguments clearcpuid=580,124'"
cat > "$work/bochsrc" <<END
megs: $megabytes
cpu: model=${CPU:-sapphire_rapids}, ips=100000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
optramimage1: file=$work/linux.bin, address=0x200000
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path=$work/disk.img, mode=flat, cylinders=$cylinders, heads=16, spt=63
floppya: 1_44=$work/boot.bin, status=inserted
boot: floppy
com1: enabled=1, mode=file, dev=$work/serial.txt
display_library: rfb, options="timeout=0"
log: $work/bochs.log
panic: action=fatal
error: action=ignore
END
echo c | "$BOCHS" -q -f "$work/bochsrc" > "$work/out.txt" 2>&1 || true
cat "$work/serial.txt"
