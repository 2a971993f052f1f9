#!/bin/sh
# Runs the tests of the tile emitter for AVX-512 on an emulated machine (Bochs), for machines that have none.
#
#     apt-get install bochs vgabios bochsbios nasm
#     tools/emulate/run.sh [FOLDER FOR FILES]
#
# The tests write each tile's code, its source and what the interpreter gives; a boot sector and a small runner, loaded
# with them, compare what the code gives. The last line must say `0 failed`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
rm -f "$work/cases.bin" "$work/out.txt"
nasm -f bin "$here/boot.asm" -o "$work/boot.bin"
nasm -f bin "$here/runner.asm" -o "$work/runner.bin"
truncate -s 1474560 "$work/boot.bin"
(cd "$here/../.." && OPTC_EMULATE="$work/cases.bin" cargo test --release --workspace --test tiles -- --test-threads=1 >&2)
head -c 512 /dev/zero >> "$work/cases.bin"
sectors=$((($(stat -c %s "$work/cases.bin") + 511) / 512))
cylinders=$(((sectors + 1 + 1007) / 1008))
python3 -c 'import struct, sys; sys.stdout.buffer.write(struct.pack("<Q", int(sys.argv[1])).ljust(512, b"\0"))' $sectors > "$work/disk.img"
cat "$work/cases.bin" >> "$work/disk.img"
truncate -s $((cylinders * 1008 * 512)) "$work/disk.img"
cat > "$work/bochsrc" <<END
megs: 512
cpu: model=${CPU:-corei7_skylake_x}, ips=100000000
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
optramimage1: file=$work/runner.bin, address=0x200000
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path=$work/disk.img, mode=flat, cylinders=$cylinders, heads=16, spt=63
floppya: 1_44=$work/boot.bin, status=inserted
boot: floppy
port_e9_hack: enabled=1
display_library: rfb, options="timeout=0"
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
log: $work/bochs.log
panic: action=fatal
END
echo c | bochs -q -f "$work/bochsrc" > "$work/out.txt" 2>&1 || true
grep -a -E "^!|cases" "$work/out.txt"
