#!/bin/sh
# x86_64-casemate-linux-musl-{ar,as,nm,ranlib,objcopy,objdump,strip,readelf,size}: the machine's GNU binutils,
# which need no adapting, under the names that configure scripts look for. The tool is the last word of the
# name that this script is called by. CASEMATE_BINUTILS is put before it (default: nothing; for example
# "x86_64-linux-gnu-" on a machine of another architecture).
exec "${CASEMATE_BINUTILS-}${0##*-linux-musl-}" "$@"
