#!/bin/sh
# Runs the tests of kernels for instruction sets that this machine lacks on an emulated one (Bochs).
#
#     apt-get install bochs vgabios bochsbios nasm
#     tools/emulate/run.sh [FOLDER FOR FILES]
#
# BOCHS names the program and CPU its model; the default needs Bochs 3.0 (Debian 13) with the corrections of
# bochs-3.0.sh. The rows `avx512` and `avx512-vnni` alone, which ROWS="avx512 avx512-vnni" selects, run on CPU=tigerlake
# of Bochs 2.7 too, but for kernels that store bfloat16. TESTS selects tests, by default all those that write cases.
#
# The tests write the code of each kernel's tiles, the calls that its nest makes, and memory before and after them as
# the interpreter has it; a boot sector and a small runner, loaded with them, make the calls and compare the memory. The
# last line says how many cases there were and how many failed. LIMIT is how many seconds the emulator may take. Exit
# codes: 0 none failed, 1 some did or the machine stopped at one, 3 the emulator did not start, 4 it took too long, and
# none had failed by then, 5 there were no cases: the tests write those of the rows of their own architecture, and the
# runner is for x86-64.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
work=$(cd "$work" && pwd)
rm -f "$work/cases.bin" "$work/out.txt" "$work/disk.img.lock"
nasm -f bin "$here/boot.asm" -o "$work/boot.bin"
nasm -f bin -i "$here/" "$here/runner.asm" -o "$work/runner.bin"
truncate -s 1474560 "$work/boot.bin"
all="--test tiles --test int8 --test bf16 --test contract --test winograd --test window"
all="$all --test elementwise --test fold --test movement --test recurrent"
(cd "$here/../.." && OPTC_EMULATE="$work/cases.bin" OPTC_EMULATE_ROWS="${ROWS:-}" \
    cargo test --release --workspace ${TESTS:-$all} -- --test-threads=1 >&2)
if ! [ -s "$work/cases.bin" ]; then
    echo "the tests wrote no cases"
    exit 5
fi
head -c 512 /dev/zero >> "$work/cases.bin"
sectors=$((($(stat -c %s "$work/cases.bin") + 511) / 512))
cylinders=$(((sectors + 1 + 1007) / 1008))
python3 -c 'import struct, sys; sys.stdout.buffer.write(struct.pack("<Q", int(sys.argv[1])).ljust(512, b"\0"))' \
    $sectors > "$work/disk.img"
cat "$work/cases.bin" >> "$work/disk.img"
truncate -s $((cylinders * 1008 * 512)) "$work/disk.img"
cat > "$work/bochsrc" <<END
megs: 2048
cpu: model=${CPU:-sapphire_rapids}, ips=100000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
optramimage1: file=$work/runner.bin, address=0x200000
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path=$work/disk.img, mode=flat, cylinders=$cylinders, heads=16, spt=63
floppya: 1_44=$work/boot.bin, status=inserted
boot: floppy
port_e9_hack: enabled=1
display_library: rfb, options="timeout=0"
log: $work/bochs.log
panic: action=fatal
END
bochs=${BOCHS:-bochs}
if "$bochs" --help features 2>&1 | grep -q sb16; then
    printf '%s\n' "sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy" "speaker: enabled=0" >> "$work/bochsrc"
fi
limit=${LIMIT:-1800} code=0
echo c | timeout "$limit" "$bochs" -q -f "$work/bochsrc" > "$work/out.txt" 2>&1 || code=$?
if ! grep -a -q "^running" "$work/out.txt"; then
    tail -n 5 "$work/out.txt" >&2
    exit 3
fi
if [ "$code" = 124 ] && ! grep -a -q -E "^!|cases" "$work/out.txt"; then
    echo "the emulator took more than $limit seconds, and no case had failed"
    exit 4
fi
grep -a -E "^!|cases" "$work/out.txt" || echo "the machine stopped at a case"
grep -a -q "[1-9][0-9]* cases, 0 failed" "$work/out.txt"
