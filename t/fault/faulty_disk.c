/*
 * A disk for tests, loaded into mariadbd before the system's library. It can
 * stall, and it remembers what a power cut would take away:
 *
 * - Every fsync() and fdatasync() of the redo log or a binary log waits while
 *   the file "stalled" exists in the directory $FAULTY_DISK; writes go on, as
 *   they do into a page cache.
 *
 * - Before a write to such a log, what the write changes is appended to an undo
 *   file in the same directory, INODE.undo; when a sync that began after the
 *   write has ended well, it is forgotten. servers.py applies what is left,
 *   last write first, after it has killed the server.
 *
 * Tablespaces are left alone. They need not be undone: InnoDB writes a page
 * only when the redo log is on disk as far as the page's last change, and a
 * page that reached the disk unasked is what may happen. They do not stall, for
 * InnoDB extends a table with its index locked, and a test would then see
 * nothing of what waits.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX  32               /* redo log and binary logs of one run */


/* The undo file: one header, then records, each followed by its old bytes. */

typedef struct {
    int64_t  begin;                 /* offset of the first record in force */
} header_t;


typedef struct {
    int64_t  offset;                /* of the write */
    int64_t  length;                /* of the old bytes: none beyond the end */
    int64_t  size;                  /* of the file, before the write */
} record_t;


typedef struct {
    dev_t    device;
    ino_t    inode;
    int      reader;                /* the file once more, for old bytes */
    int      undo;
    int64_t  begin;
    int64_t  end;
    int      syncing;               /* threads that know an older end */
} file_t;


static file_t           files[FILES_MAX];
static int              nfiles;
static pthread_mutex_t  mutex = PTHREAD_MUTEX_INITIALIZER;


static ssize_t  (*next_write)(int, const void *, size_t);
static ssize_t  (*next_pwrite)(int, const void *, size_t, off_t);
static int      (*next_fsync)(int);
static int      (*next_fdatasync)(int);


__attribute__((constructor))
static void
init(void)
{
    *(void **) &next_write = dlsym(RTLD_NEXT, "write");
    *(void **) &next_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    *(void **) &next_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **) &next_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
}


/* A rig that does not work must not look like a disk that does. */

static void
die(const char *what)
{
    fprintf(stderr, "faulty_disk: %s failed: %s\n", what, strerror(errno));
    abort();
}


static void
stall(void)
{
    char             path[PATH_MAX];
    struct timespec  pause = { 0, 1000000 };

    snprintf(path, sizeof(path), "%s/stalled", getenv("FAULTY_DISK"));

    while (access(path, F_OK) == 0) {
        nanosleep(&pause, NULL);
    }
}


/* Called with the mutex held; NULL for a file that is none of the logs. */

static file_t *
find(int fd)
{
    int          i;
    char         link[32], path[PATH_MAX], undo[PATH_MAX];
    file_t      *file;
    ssize_t      n;
    const char  *name;
    struct stat  st;

    if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
        return NULL;
    }

    for (i = 0; i < nfiles; i++) {
        if (files[i].inode == st.st_ino && files[i].device == st.st_dev) {
            return &files[i];
        }
    }

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);

    n = readlink(link, path, sizeof(path) - 1);
    if (n == -1) {
        die("readlink()");
    }

    path[n] = '\0';
    name = strrchr(path, '/') + 1;

    if (fnmatch("ib_logfile*", name, 0) != 0
        && fnmatch("*-bin.[0-9]*", name, 0) != 0)
    {
        return NULL;
    }

    if (nfiles == FILES_MAX) {
        errno = ENFILE;
        die("one more file");
    }

    snprintf(undo, sizeof(undo), "%s/%ju.undo", getenv("FAULTY_DISK"),
             (uintmax_t) st.st_ino);

    file = &files[nfiles];

    file->device = st.st_dev;
    file->inode = st.st_ino;
    file->begin = sizeof(header_t);
    file->end = sizeof(header_t);

    file->reader = open(path, O_RDONLY|O_CLOEXEC);
    file->undo = open(undo, O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0600);

    if (file->reader == -1 || file->undo == -1) {
        die("open()");
    }

    nfiles++;

    return file;
}


static void
append(file_t *file, const void *data, size_t size)
{
    if (next_pwrite(file->undo, data, size, file->end) != (ssize_t) size) {
        die("pwrite()");
    }

    file->end += size;
}


/* Called with the mutex held, which is held until the write is done. */

static void
remember(file_t *file, int64_t offset, size_t size)
{
    char         *old;
    header_t      header;
    record_t      record;
    ssize_t       n;
    struct stat   st;

    old = malloc(size);

    if (old == NULL || fstat(file->reader, &st) == -1) {
        die("fstat()");
    }

    n = pread(file->reader, old, size, offset);
    if (n == -1) {
        die("pread()");
    }

    if (file->begin == file->end && file->syncing == 0) {
        header.begin = file->begin = file->end = sizeof(header_t);

        if (ftruncate(file->undo, 0) == -1
            || next_pwrite(file->undo, &header, sizeof(header), 0) == -1)
        {
            die("a new undo file");
        }
    }

    record.offset = offset;
    record.length = n;
    record.size = st.st_size;

    append(file, &record, sizeof(record));
    append(file, old, n);

    free(old);
}


static int
sync_file(int fd, int (*next)(int))
{
    int        rc;
    file_t    *file;
    int64_t    written;
    header_t   header;

    written = 0;

    pthread_mutex_lock(&mutex);

    file = find(fd);

    if (file) {
        file->syncing++;
        written = file->end;
    }

    pthread_mutex_unlock(&mutex);

    if (file == NULL) {
        return next(fd);
    }

    stall();

    rc = next(fd);

    pthread_mutex_lock(&mutex);

    file->syncing--;

    if (rc == 0 && written > file->begin) {
        header.begin = file->begin = written;

        if (next_pwrite(file->undo, &header, sizeof(header), 0) == -1) {
            die("pwrite()");
        }
    }

    pthread_mutex_unlock(&mutex);

    return rc;
}


static ssize_t
write_file(int fd, const void *data, size_t size, off_t offset, int at)
{
    file_t   *file;
    ssize_t   n;

    pthread_mutex_lock(&mutex);

    file = find(fd);

    if (file == NULL) {
        pthread_mutex_unlock(&mutex);

        return at ? next_pwrite(fd, data, size, offset)
                  : next_write(fd, data, size);
    }

    if (at) {
        remember(file, offset, size);
        n = next_pwrite(fd, data, size, offset);

    } else {
        remember(file, lseek(fd, 0, SEEK_CUR), size);
        n = next_write(fd, data, size);
    }

    pthread_mutex_unlock(&mutex);

    return n;
}


int
fsync(int fd)
{
    return sync_file(fd, next_fsync);
}


int
fdatasync(int fd)
{
    return sync_file(fd, next_fdatasync);
}


ssize_t
pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    return write_file(fd, data, size, offset, 1);
}


ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return write_file(fd, data, size, offset, 1);
}


ssize_t
write(int fd, const void *data, size_t size)
{
    return write_file(fd, data, size, 0, 0);
}
