#!/bin/sh
# Corrects a source tree of Bochs 3.0 (Debian 13's `apt-get source bochs`) before it is built:
#
#     tools/emulate/bochs-3.0.sh FOLDER OF THE TREE
#     cd FOLDER && ./configure --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-amx --with-rfb \
#         --enable-all-optimizations --disable-docbook --disable-plugins --enable-long-phy-address && make
#
# It takes the signed bytes of `tdpbusd` as unsigned. Its Sapphire Rapids has no extended feature disable (XFD), without
# which Linux offers no matrix registers: two MSRs, what CPUID says of them, and the exception at the first instruction
# for matrices. And where these are on, it overlooks writes to code: its cache of decoded code is indexed with 128 bytes
# in a group, and the mode's bit for matrices, 1 << 7, moves an entry to the next group, which it does not look at.
# `vcvtne2ps2bf16` reads its upper half from after the register.
set -eu
cd "$1/cpu"
grep -q bx_xfd msr.cc && exit
sed -i '/ DPBDUS(/,/^}/s/Bit32s(ybyte\[\([0-3]\)\])/Bit32s(Bit8s(ybyte[\1]))/' avx/amx.cc
sed -i -e '/BX_CPU_C::rdmsr(/i Bit64u bx_xfd, bx_xfd_err;\n' \
    -e '/BX_CPU_C::rdmsr(/,/BX_MSR_MAX_INDEX/s/^  if (index < BX_MSR_MAX_INDEX/  if (index == 0x1c4 || index =='\
' 0x1c5) {\n    *msr = index == 0x1c4 ? bx_xfd : bx_xfd_err;\n    return true;\n  }\n&/' \
    -e '/BX_CPU_C::wrmsr(/,/BX_MSR_MAX_INDEX/s/^  if (index < BX_MSR_MAX_INDEX/  if (index == 0x1c4 || index =='\
' 0x1c5) {\n    (index == 0x1c4 ? bx_xfd : bx_xfd_err) = val_64;\n    handleAvxModeChange();\n    return true;\n  }\n'\
'&/' msr.cc
sed -i -e '/^void BX_CPU_C::handleAvxModeChange/i extern Bit64u bx_xfd, bx_xfd_err;\n' \
    -e '/^void BX_CPU_C::handleAvxModeChange/,/^}/s/  if (! long64_mode() ||/  if ((bx_xfd \& BX_XCR0_XTILEDATA_MASK)'\
' || ! long64_mode() ||/' \
    -e '/BX_CPU_C::BxNoAMX(/,/^}/s/^  BX_ASSERT(0);/  if (bx_xfd \& BX_XCR0_XTILEDATA_MASK) {\n'\
'    bx_xfd_err |= BX_XCR0_XTILEDATA_MASK;\n    exception(BX_NM_EXCEPTION, 0);\n  }\n\n&/' proc_ctrl.cc
sed -i -e '/bx_cpuid_t::get_std_cpuid_xsave_leaf/,/^}/s/^      leaf->eax |= (1<<3);/&\n'\
'    if (cpu->xcr0_suppmask \& BX_XCR0_XTILEDATA_MASK)\n      leaf->eax |= (1<<4);/' \
    -e '/bx_cpuid_t::get_std_cpuid_xsave_leaf/,/^}/s/^      leaf->ecx = .*/&\n'\
'      if (subfunction == xcr0_t::BX_XCR0_XTILEDATA_BIT)\n        leaf->ecx |= 4;/' cpuid.cc
sed -i 's/^    if (line_mask > mask) break;$//' icache.h
sed -i '/::VCVTNE2PS2BF16/,/^}/s/op1.vmm32u(n)/op1.vmm32u(n - DWORD_ELEMENTS(len))/' avx/avx512_bf16.cc
