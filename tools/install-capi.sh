#!/bin/sh
# install-capi.sh PREFIX [LIBRARIES]: installs the C library as distributions lay it out, for `pkg-config optc`.
#
# Into PREFIX/lib the shared library under its version with the links of its SONAME and of the linker, and the static
# one; the header into PREFIX/include, optc.pc into PREFIX/lib/pkgconfig. LIBRARIES is where `cargo build --release`
# left liboptc.so and liboptc.a (target/release). With DESTDIR the files go below it, as packagers expect.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
prefix=${1:?"usage: install-capi.sh PREFIX [LIBRARIES]"}
libraries=${2:-$here/target/release}
for file in liboptc.so liboptc.a; do
    if [ ! -f "$libraries/$file" ]; then
        echo "install-capi.sh: no $file in $libraries: run \`cargo build --release\` first" >&2
        exit 1
    fi
done
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/Cargo.toml")
soname=$(readelf -d "$libraries/liboptc.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
lib=${DESTDIR:-}$prefix/lib
install -d "$lib/pkgconfig" "${DESTDIR:-}$prefix/include"
install -m 755 "$libraries/liboptc.so" "$lib/liboptc.so.$version"
ln -sf "liboptc.so.$version" "$lib/$soname"
ln -sf "$soname" "$lib/liboptc.so"
install -m 644 "$libraries/liboptc.a" "$lib/liboptc.a"
install -m 644 "$here/compiler/capi/include/optc.h" "${DESTDIR:-}$prefix/include/optc.h"
sed -e "s|@prefix@|$prefix|" -e "s|@version@|$version|" -e "s|@private@|-lpthread -ldl -lm|" \
    "$here/compiler/capi/optc.pc.in" >"$lib/pkgconfig/optc.pc"
echo "installed $soname, liboptc.a, optc.h and optc.pc in ${DESTDIR:-}$prefix"
