/* Scratch files in memory, for programs that need some: the kernel `libos-files`.
 *
 * It lies between the C library and the library OS kernel, whose entries are renamed to kernel_syscall and
 * kernel_syscall_cp, and is in no image that does not ask for it (-mkernel=libos-files). One flat folder of a few
 * dozen names; a file lives until it is unlinked and closed, and none outlives the domain. Threads are cooperative
 * and nothing here waits, so there are no locks.
 *
 * Descriptors from FIRST on are files; the kernel's own are below. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

long kernel_syscall(long n, long a, long b, long c, long d, long e, long f);
long kernel_syscall_cp(long n, long a, long b, long c, long d, long e, long f);

/* The first descriptor behind those of the kernel (its MAX_DESCRIPTORS). */
enum { FIRST = 64, DESCRIPTORS = 64, FILES = 32, NAME = 128 };

static struct file {
	char name[NAME];	/* empty: unlinked */
	char *data;
	size_t size, room;
	unsigned open;		/* descriptors */
	int used;
} files[FILES];

static struct descriptor {
	struct file *file;
	size_t position;
	int flags, close_on_exec;
} descriptors[DESCRIPTORS];

static size_t length(const char *text)
{
	size_t n = 0;
	while (text[n]) n++;
	return n;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b) a++, b++;
	return *a == *b;
}

static void copy(char *to, const char *from, size_t n)
{
	for (size_t i = 0; i < n; i++) to[i] = from[i];
}

static void clear(char *to, size_t n)
{
	for (size_t i = 0; i < n; i++) to[i] = 0;
}

/* There is one folder: a path is as good as its last part. */
static const char *base(const char *path)
{
	const char *name = path;
	for (; *path; path++) if (*path == '/') name = path + 1;
	return name;
}

static struct file *find(const char *path)
{
	const char *name = base(path);
	for (int i = 0; *name && i < FILES; i++) if (files[i].used && same(files[i].name, name)) return &files[i];
	return 0;
}

static void forget(struct file *file)
{
	if (file->open || file->name[0]) return;
	if (file->room) kernel_syscall(SYS_munmap, (long)file->data, file->room, 0, 0, 0, 0);
	*file = (struct file){0};
}

/* Makes room for size bytes; those behind the old end are zero. */
static int grow(struct file *file, size_t size)
{
	if (size > (size_t)1 << 40) return -EFBIG;
	if (size > file->room) {
		size_t room = (size + size / 2 + 0xffff) & ~(size_t)0xffff;
		long data = file->room
			? kernel_syscall(SYS_mremap, (long)file->data, file->room, room, MREMAP_MAYMOVE, 0, 0)
			: kernel_syscall(SYS_mmap, 0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (data < 0 && data > -4096) return -ENOSPC;
		file->data = (char *)data;
		file->room = room;
	}
	if (size > file->size) file->size = size;
	return 0;
}

static int resize(struct file *file, size_t size)
{
	if (size < file->size) {
		clear(file->data + size, file->size - size);
		file->size = size;
		return 0;
	}
	return grow(file, size);
}

static long open_file(const char *path, int flags)
{
	const char *name = base(path);
	struct file *file = find(path);
	int slot = 0;
	if (!*name) return *path ? -EISDIR : -ENOENT;
	if (flags & O_DIRECTORY & ~O_TMPFILE) return file ? -ENOTDIR : -ENOENT;
	if (file && (flags & O_CREAT) && (flags & O_EXCL)) return -EEXIST;
	if (!file && !(flags & O_CREAT)) return -ENOENT;
	if (length(name) >= NAME) return -ENAMETOOLONG;
	while (slot < DESCRIPTORS && descriptors[slot].file) slot++;
	if (slot == DESCRIPTORS) return -EMFILE;
	for (int i = 0; !file && i < FILES; i++) if (!files[i].used) file = &files[i];
	if (!file) return -ENOSPC;
	if (!file->used) {
		file->used = 1;
		copy(file->name, name, length(name) + 1);
	}
	if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) resize(file, 0);
	file->open++;
	descriptors[slot] = (struct descriptor){file, 0, flags & (O_ACCMODE | O_APPEND), !!(flags & O_CLOEXEC)};
	return FIRST + slot;
}

static long transfer(struct descriptor *d, size_t at, char *data, size_t n, int writing)
{
	struct file *file = d->file;
	if ((d->flags & O_ACCMODE) == (writing ? O_RDONLY : O_WRONLY)) return -EBADF;
	if (n > INT32_MAX) n = INT32_MAX;
	if (writing) {
		int error = n ? grow(file, at + n) : 0;
		if (error) return error;
		copy(file->data + at, data, n);
		return n;
	}
	if (at >= file->size) return 0;
	if (n > file->size - at) n = file->size - at;
	copy(data, file->data + at, n);
	return n;
}

static long sequential(struct descriptor *d, char *data, size_t n, int writing)
{
	if (writing && (d->flags & O_APPEND)) d->position = d->file->size;
	long done = transfer(d, d->position, data, n, writing);
	if (done > 0) d->position += done;
	return done;
}

static long vector(struct descriptor *d, const struct iovec *list, long count, int writing)
{
	long total = 0;
	if (count < 0 || count > 1024) return -EINVAL;
	for (long i = 0; i < count; i++) {
		long done = sequential(d, list[i].iov_base, list[i].iov_len, writing);
		if (done < 0) return total ? total : done;
		total += done;
		if ((size_t)done < list[i].iov_len) break;
	}
	return total;
}

static long seek(struct descriptor *d, long offset, int from)
{
	long start = from == SEEK_SET ? 0 : from == SEEK_CUR ? (long)d->position : (long)d->file->size;
	if (from < SEEK_SET || from > SEEK_END || offset < -start) return -EINVAL;
	return d->position = start + offset;
}

static long describe(const struct file *file, struct stat *st)
{
	clear((char *)st, sizeof *st);
	st->st_dev = 2;
	st->st_ino = 1 + (file - files);
	st->st_nlink = file->name[0] != 0;
	st->st_mode = S_IFREG | 0600;
	st->st_size = file->size;
	st->st_blksize = 4096;
	st->st_blocks = file->room / 512;
	return 0;
}

static long close_file(struct descriptor *d)
{
	struct file *file = d->file;
	d->file = 0;
	file->open--;
	forget(file);
	return 0;
}

static long rename_file(const char *from, const char *to)
{
	struct file *file = find(from), *old = find(to);
	const char *name = base(to);
	if (!file || !*name) return -ENOENT;
	if (length(name) >= NAME) return -ENAMETOOLONG;
	if (old == file) return 0;
	if (old) {
		old->name[0] = 0;
		forget(old);
	}
	copy(file->name, name, length(name) + 1);
	return 0;
}

static long unlink_file(const char *path)
{
	struct file *file = find(path);
	if (!file) return -ENOENT;
	file->name[0] = 0;
	forget(file);
	return 0;
}

/* A call about descriptor `a`, if that is a file. */
static long with_descriptor(struct descriptor *d, long n, long b, long c, long e)
{
	switch (n) {
	case SYS_read: return sequential(d, (char *)b, c, 0);
	case SYS_write: return sequential(d, (char *)b, c, 1);
	case SYS_readv: return vector(d, (struct iovec *)b, c, 0);
	case SYS_writev: return vector(d, (struct iovec *)b, c, 1);
	case SYS_pread64: return e < 0 ? -EINVAL : transfer(d, e, (char *)b, c, 0);
	case SYS_pwrite64: return e < 0 ? -EINVAL : transfer(d, e, (char *)b, c, 1);
	case SYS_lseek: return seek(d, b, c);
	case SYS_close: return close_file(d);
	case SYS_fstat: return describe(d->file, (struct stat *)b);
	case SYS_ftruncate: return b < 0 || (d->flags & O_ACCMODE) == O_RDONLY ? -EINVAL : resize(d->file, b);
	case SYS_fsync: case SYS_fdatasync: return 0;
	case SYS_ioctl: return -ENOTTY;
	case SYS_fcntl:
		switch (b) {
		case F_GETFD: return d->close_on_exec;
		case F_SETFD: d->close_on_exec = c & FD_CLOEXEC; return 0;
		case F_GETFL: return d->flags;
		case F_SETFL: d->flags = (d->flags & O_ACCMODE) | (c & O_APPEND); return 0;
		}
		return -EINVAL;
	}
	return -ENOSYS;
}

/* A call about a path; 1 when it is none. */
static long with_path(long n, long a, long b, long c)
{
	struct file *file;
	switch (n) {
	case SYS_open: return open_file((char *)a, b);
	case SYS_openat: return open_file((char *)b, c);
	case SYS_creat: return open_file((char *)a, O_CREAT | O_WRONLY | O_TRUNC);
	case SYS_stat: case SYS_lstat:
		file = find((char *)a);
		return file ? describe(file, (struct stat *)b) : -ENOENT;
	case SYS_newfstatat:
		file = find((char *)b);
		return file ? describe(file, (struct stat *)c) : -ENOENT;
	case SYS_access: return find((char *)a) ? 0 : -ENOENT;
	case SYS_faccessat: return find((char *)b) ? 0 : -ENOENT;
	case SYS_unlink: return unlink_file((char *)a);
	case SYS_unlinkat: return unlink_file((char *)b);
	case SYS_rename: return rename_file((char *)a, (char *)b);
	case SYS_truncate:
		file = find((char *)a);
		return !file ? -ENOENT : b < 0 ? -EINVAL : resize(file, b);
	}
	return 1;
}

static int ours(long n)
{
	switch (n) {
	case SYS_read: case SYS_write: case SYS_readv: case SYS_writev: case SYS_pread64: case SYS_pwrite64:
	case SYS_lseek: case SYS_close: case SYS_fstat: case SYS_ftruncate: case SYS_fsync: case SYS_fdatasync:
	case SYS_ioctl: case SYS_fcntl:
		return 1;
	}
	return 0;
}

/* The answer to a call about files; 0 when it is for the kernel. */
static int answer(long n, long a, long b, long c, long d, long *result)
{
	if (ours(n)) {
		unsigned long slot = (unsigned long)(int)a - FIRST;
		if (slot >= DESCRIPTORS || !descriptors[slot].file) return 0;
		*result = with_descriptor(&descriptors[slot], n, b, c, d);
		return 1;
	}
	long value = with_path(n, a, b, c);
	if (value == 1) return 0;
	*result = value;
	return 1;
}

HIDDEN long libos_syscall(long n, long a, long b, long c, long d, long e, long f)
{
	long result;
	return answer(n, a, b, c, d, &result) ? result : kernel_syscall(n, a, b, c, d, e, f);
}

HIDDEN long libos_syscall_cp(long n, long a, long b, long c, long d, long e, long f)
{
	long result;
	return answer(n, a, b, c, d, &result) ? result : kernel_syscall_cp(n, a, b, c, d, e, f);
}
