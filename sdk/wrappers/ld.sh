#!/bin/sh
# ld for domain images: GNU ld with the linker script of the kernel in use, unused sections dropped, and a
# check of the result. Called by the gcc and clang wrappers and as x86_64-casemate-linux-musl-ld.
#
# The kernel in use is the one whose crt1.o is on the command line; without a crt1.o (-nostartfiles) and with
# a script of the caller's own (-T) nothing is added.
#
#   CASEMATE_LD      the GNU ld to run (default: ld)
#   CASEMATE_MAP     not empty: also write the link map OUTPUT.map, which `casemate size` reads
#   CASEMATE_STD     "full": link Rust's std as it is, not the SDK's copy without what needs files; "small": a copy
#                    that prints no backtraces and cannot unwind either, for programs with panic=abort
#   CASEMATE_CHECK   "no": skip the check (no system call instruction outside the kernel, no segment both
#                    writable and executable, Xen's notes)
self=$(readlink -f -- "$0") || exit 1
libexec=${self%/*}
ld=${CASEMATE_LD:-ld}
kernel= script= strip= out=a.out next= image=yes tables= std=${CASEMATE_STD:-std}

# GCC hands long command lines over in a file: one argument a line, special characters behind a backslash.
for arg; do
	shift
	case $arg in
	@*)
		if [ -f "${arg#@}" ]; then
			while IFS= read -r line; do
				case $line in
				'""') line= ;;
				*\\*) line=$(printf '%s\n' "$line" | sed 's/\\\(.\)/\1/g') ;;
				esac
				set -- "$@" "$line"
			done <"${arg#@}"
			continue
		fi
		;;
	esac
	set -- "$@" "$arg"
done

for arg; do
	shift
	case $next in
	out) out=$arg ;;
	esac
	next=
	case $arg in
	-o) next=out ;;
	-o?*) out=${arg#-o} ;;
	--output=*) out=${arg#--output=} ;;
	-r | -i | -Ur | --relocatable) image= ;;
	-Ttext* | -Tdata* | -Tbss* | -Trodata* | -Tldata*) ;;
	-T | -T* | --script | --script=* | -dT) script=own ;;
	-shared | --shared | -Bshareable)
		echo "${0##*/}: a domain image is static: there are no shared libraries (build a static library)" >&2
		exit 1
		;;
	--help)
		# Without "supported targets: ... elf" configure scripts (libtool) do not try shared libraries.
		"$ld" --help | sed 's/: supported targets:.*/: static domain images only/'
		exit
		;;
	-v | -V | --version) image= ;;
	# The check needs the symbols; strip afterwards.
	-s | --strip-all) strip=--strip-all && continue ;;
	-S | --strip-debug) strip=${strip:---strip-debug} && continue ;;
	*/crt1.o)
		kernel=$arg
		case $arg in
		*/standin-files/crt1.o) std=full ;;
		esac
		;;
	*/libstd-*.rlib)
		copy=$libexec/../../x86_64-casemate-linux-musl/lib/rust/$std/${arg##*/}
		[ -f "$copy" ] && arg=$copy
		;;
	esac
	set -- "$@" "$arg"
done

if [ -z "$image" ]; then
	exec "$ld" "$@" ${strip:+"$strip"}
fi

if [ -n "$kernel" ]; then
	kernel=$(readlink -f -- "$kernel")
	kernel=${kernel%/*}
	if [ -z "$script" ] && [ -f "$kernel/link.ld" ]; then
		# GCC asks for a build id, which a domain image has no place for.
		ldscript=$kernel/link.ld
		if [ "$std" = small ] && [ -f "$kernel/link-small.ld" ]; then
			ldscript=$kernel/link-small.ld
			tables=--no-eh-frame-hdr
		fi
		set -- "$@" -T "$ldscript" --build-id=none
	fi
fi
if [ "$std" = small ]; then
	# Its unwinder goes before the real one.
	set -- -L"$libexec/../../x86_64-casemate-linux-musl/lib/rust/small" "$@"
fi
if [ -n "${CASEMATE_MAP-}" ]; then
	set -- "$@" -Map="$out.map"
fi
# -nostdlib: only the library folders named on the command line, never the build machine's.
# shellcheck disable=SC2086 # one word or none
"$ld" -nostdlib --gc-sections --eh-frame-hdr -z noexecstack "$@" $tables || exit

if [ -n "$kernel" ] && [ "${CASEMATE_CHECK:-yes}" != no ] && [ -x "$libexec/check" ]; then
	if ! "$libexec/check" --kernel "${kernel##*/}" "$out"; then
		rm -f -- "$out"
		exit 1
	fi
fi
if [ -n "$strip" ]; then
	exec "${CASEMATE_STRIP:-strip}" "$strip" "$out"
fi
