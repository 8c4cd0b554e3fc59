#!/bin/sh
# x86_64-casemate-linux-musl-run PROGRAM [ARGUMENT...]: runs what the SDK linked. An image that carries Xen's
# notes is booted as a domain by $CASEMATE_RUN (default: casemate run); one that was linked for a stand-in
# kernel is an ordinary Linux process. For CMAKE_CROSSCOMPILING_EMULATOR, meson's exe_wrapper, automake's
# LOG_COMPILER and cargo's runner.
if [ $# -eq 0 ]; then
	echo "usage: ${0##*/} PROGRAM [ARGUMENT...]" >&2
	exit 2
fi
program=$1
if LC_ALL=C readelf --notes "$program" 2>/dev/null | grep -q '^ *Xen '; then
	shift
	# shellcheck disable=SC2086 # CASEMATE_RUN is a command line
	exec ${CASEMATE_RUN:-casemate run} "$program" -- "$@"
fi
case $program in
*/*) exec "$@" ;;
*) shift && exec "./$program" "$@" ;;
esac
