#!/bin/sh
# Compiles models again and again, in a process each, and compares the bytes: of the artifact with machine code for
# three targets, and of the program for each of them.
#
#     cargo build --release --workspace
#     tests/tools/same_bytes.sh target/release/optc MODEL.onnx...
#
# ROUNDS is how often (20); open dims are pinned by SHAPES, options of `optc compile`. What else the machine does must
# not matter: run it alongside something that keeps all cores busy.
set -eu
optc=$1
shift
targets="avx2 avx512-vnni aarch64-neon"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for model in "$@"; do
    for round in $(seq 0 "${ROUNDS:-20}"); do
        # shellcheck disable=SC2086 # several options
        "$optc" compile "$model" ${SHAPES:-} --native="$(echo $targets | tr ' ' ,)" \
            -o "$folder/$round.optc" >"$folder/report"
        for target in $targets; do
            # shellcheck disable=SC2086
            "$optc" compile "$model" ${SHAPES:-} --emit program --target "$target" \
                -o "$folder/$target-$round.prog" >"$folder/report"
        done
        for made in optc "avx2.prog" "avx512-vnni.prog" "aarch64-neon.prog"; do
            case "$made" in
                optc) first=$folder/0.optc again=$folder/$round.optc ;;
                *) first=$folder/${made%.prog}-0.prog again=$folder/${made%.prog}-$round.prog ;;
            esac
            cmp "$first" "$again"
            [ "$round" = 0 ] || rm "$again"
        done
    done
    echo "$model: the same bytes ${ROUNDS:-20} times"
    rm -f "$folder"/*
done
