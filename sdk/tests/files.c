/* Scratch files: the kernel `libos-files` keeps them in memory; the stand-in with files has Linux's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"

#define NAME "casemate-files-test"

int main(void)
{
	char text[64] = "";
	struct stat st;
	unlink(NAME);
	FILE *f = fopen(NAME, "w");
	if (!CHECK(f != 0)) return DONE();
	CHECK(fprintf(f, "line %d\nline %d\n", 1, 2) == 14 && fclose(f) == 0);
	CHECK(stat(NAME, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 14 && access(NAME, R_OK) == 0);
	CHECK((f = fopen(NAME, "r+")) != 0 && fgets(text, sizeof text, f) != 0);
	SAME(text, "line 1\n");
	CHECK(fseek(f, 5, SEEK_SET) == 0 && fputc('9', f) == '9' && fseek(f, 0, SEEK_END) == 0 && ftell(f) == 14);
	CHECK(fputs("end", f) >= 0 && fclose(f) == 0);
	int fd = open(NAME, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, text, sizeof text) == 17 && memcmp(text, "line 9\nline 2\nend", 17) == 0);
	CHECK(read(fd, text, 1) == 0 && pread(fd, text, 4, 14) == 3 && lseek(fd, -3, SEEK_END) == 14);
	FAILS(write(fd, "x", 1), EBADF);
	FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	CHECK(rename(NAME, NAME "2") == 0 && access(NAME, F_OK) == -1 && errno == ENOENT);
	/* An unlinked file lives as long as it is open. */
	CHECK(unlink(NAME "2") == 0 && pread(fd, text, 3, 14) == 3 && memcmp(text, "end", 3) == 0 && close(fd) == 0);
	FAILS(open(NAME "2", O_RDWR), ENOENT);
	FAILS(close(fd), EBADF);

	fd = open(NAME, O_RDWR | O_CREAT | O_EXCL, 0600);
	FAILS(open(NAME, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK(fd >= 0 && pwrite(fd, "x", 1, 100000) == 1 && fstat(fd, &st) == 0 && st.st_size == 100001);
	CHECK(pread(fd, text, 2, 99999) == 2 && text[0] == 0 && text[1] == 'x');
	CHECK(ftruncate(fd, 10) == 0 && ftruncate(fd, 20) == 0 && pread(fd, text, 30, 0) == 20 && text[15] == 0);
	CHECK(close(fd) == 0 && unlink(NAME) == 0);

	/* More than memory holds at once: space comes back. */
	static char block[1 << 16];
	int bad = 0;
	for (int i = 0; i < 100; i++) {
		FILE *t = tmpfile();
		if (!t) {
			bad++;
			continue;
		}
		for (int k = 0; k < 32; k++) bad += fwrite(block, 1, sizeof block, t) != sizeof block;
		bad += fclose(t) != 0;
	}
	CHECK(bad == 0);
	return DONE();
}
