# Made by `casemate new`. `casemate build` and `casemate run .` run this and bring the compiler along. For plain make:
#   PATH=@ROOT@/target/sdk/bin:$PATH make
# `make linux` builds the same service as a Linux process, which plays a domain for other processes of this user:
#   IDC_HOSTED=7 ./@NAME@-linux
CC = x86_64-casemate-linux-musl-gcc
PKG_CONFIG = x86_64-casemate-linux-musl-pkg-config
CFLAGS = -Os -g -Wall -Wextra
STRIP = x86_64-casemate-linux-musl-strip

# The symbols stay here, for `casemate symbolize` and gdb; the image does without.
@NAME@: @NAME@.debug
	$(STRIP) -o $@ $<

@NAME@.debug: service.c
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ service.c $$($(PKG_CONFIG) --cflags --libs idc)

# The library for Linux programs; it is linked statically here.
NATIVE = @ROOT@/target/sdk/native
linux: @NAME@-linux
@NAME@-linux: service.c
	cc -g -Wall -Wextra -I$(NATIVE)/include -o $@ service.c $(NATIVE)/lib/libidc.a -lgcc_s

clean:
	rm -f @NAME@ @NAME@.debug @NAME@-linux

.PHONY: clean linux
