# Made by `casemate new`. `casemate build` and `casemate run .` run this and bring the compiler along. For plain make:
#   PATH=@ROOT@/target/sdk/bin:$PATH make
CC = x86_64-casemate-linux-musl-gcc
CFLAGS = -Os -g -Wall -Wextra

STRIP = x86_64-casemate-linux-musl-strip

# The symbols stay here, for `casemate symbolize` and gdb; the image does without.
@NAME@: @NAME@.debug
	$(STRIP) -o $@ $<

@NAME@.debug: main.c
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ main.c

clean:
	rm -f @NAME@ @NAME@.debug

.PHONY: clean
