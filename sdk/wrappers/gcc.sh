#!/bin/sh
# x86_64-casemate-linux-musl-gcc: GCC with the headers, libraries, start code and link mode of a domain image.
#
#   -mkernel=NAME    link for this kernel (a folder of lib/kernel) in place of $CASEMATE_KERNEL: libos (a
#                    domain), standin (a Linux process that gets a domain's answers), standin-files (the
#                    same, and files work). Without either: default, a link to one of them.
#   CASEMATE_GCC     the GCC to run (default: gcc)
self=$(readlink -f -- "$0") || exit 1
prefix=${self%/bin/*}
CASEMATE_SYSROOT=$prefix/x86_64-casemate-linux-musl
export CASEMATE_SYSROOT
kernel=${CASEMATE_KERNEL:-default}

# Every argument moves to the end of the list once, except our own option.
for arg; do
	shift
	case $arg in
	-mkernel=*) kernel=${arg#-mkernel=} ;;
	-shared)
		echo "${0##*/}: a domain image is static: there are no shared libraries (build a static library)" >&2
		exit 1
		;;
	-dumpmachine)
		echo x86_64-casemate-linux-musl
		exit
		;;
	*) set -- "$@" "$arg" ;;
	esac
done

if [ ! -f "$CASEMATE_SYSROOT/lib/kernel/$kernel/crt1.o" ]; then
	echo "${0##*/}: this SDK has no kernel '$kernel'; it has:" $(ls "$CASEMATE_SYSROOT/lib/kernel") >&2
	exit 1
fi

# The ld of libexec adds the kernel's linker script and checks the result. A domain image is static and not
# relocatable, whatever the package asks for, so these two come last.
exec "${CASEMATE_GCC:-gcc}" -specs="$CASEMATE_SYSROOT/lib/casemate.specs" \
	-B"$CASEMATE_SYSROOT/lib/kernel/$kernel/" -B"$CASEMATE_SYSROOT/lib/" -B"$prefix/libexec/casemate/" \
	-fno-pie "$@" -static -no-pie
