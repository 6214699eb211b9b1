/* Stands before the system's calls that change a file, and counts them.
 *
 * h5dask_kill_at(n) ends the process, as a power cut would, before the n-th of them.
 * h5dask_calls() tells how many there were. With H5DASK_NO_LOCKS set flock fails as on NFS.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long seen, last;

void h5dask_kill_at(long n) { seen = 0; last = n; }
long h5dask_calls(void) { return seen; }

static void count(void)
{
    if (++seen == last)
        kill(getpid(), SIGKILL);
}

#define COUNTED(type, name, params, args)                                      \
    type name params                                                           \
    {                                                                          \
        static type(*real) params;                                             \
        if (!real)                                                             \
            real = dlsym(RTLD_NEXT, #name);                                    \
        count();                                                               \
        return real args;                                                      \
    }

COUNTED(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o))
COUNTED(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o))
COUNTED(ssize_t, pwritev, (int f, const struct iovec *v, int n, off_t o), (f, v, n, o))
COUNTED(ssize_t, pwritev64, (int f, const struct iovec *v, int n, off64_t o), (f, v, n, o))
COUNTED(int, ftruncate, (int f, off_t n), (f, n))
COUNTED(int, ftruncate64, (int f, off64_t n), (f, n))
COUNTED(int, fallocate, (int f, int mode, off_t o, off_t n), (f, mode, o, n))
COUNTED(int, fallocate64, (int f, int mode, off64_t o, off64_t n), (f, mode, o, n))
COUNTED(int, fsync, (int f), (f))
COUNTED(int, rename, (const char *a, const char *b), (a, b))
COUNTED(int, link, (const char *a, const char *b), (a, b))
COUNTED(int, unlink, (const char *a), (a))
COUNTED(int, truncate, (const char *a, off_t n), (a, n))
COUNTED(int, mkdir, (const char *a, mode_t m), (a, m))
COUNTED(int, rmdir, (const char *a), (a))

int flock(int f, int operation)
{
    static int (*real)(int, int);
    if (getenv("H5DASK_NO_LOCKS")) {
        errno = ENOLCK;
        return -1;
    }
    if (!real)
        real = dlsym(RTLD_NEXT, "flock");
    return real(f, operation);
}
