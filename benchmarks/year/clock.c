/* Shifts the time of day of a process by the number of nanoseconds that the file `shift` beside this library holds: see clock.py.

   Durations and waits stay real: only CLOCK_REALTIME is shifted. A deadline by that clock, which a process has computed from the shifted
   time, is shifted back before it reaches the kernel. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define EPOCH 1000000000 /* a deadline that is later is one by CLOCK_REALTIME: the monotonic clock begins with the machine */

static const volatile int64_t *shift;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_sem)(sem_t *, const struct timespec *);
static int (*real_sleep)(clockid_t, int, const struct timespec *, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    static const int64_t none = 0;
    Dl_info own;
    char name[4096] = "";
    if (dladdr((void *)begin, &own)) snprintf(name, sizeof name, "%.*sshift", (int)(strrchr(own.dli_fname, '/') - own.dli_fname + 1), own.dli_fname);
    int file = open(name, O_RDONLY | O_CLOEXEC);
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_cond = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_sem = dlsym(RTLD_NEXT, "sem_timedwait");
    real_sleep = dlsym(RTLD_NEXT, "clock_nanosleep");
    shift = found == MAP_FAILED ? &none : found;
}

static struct timespec shifted(struct timespec at, int64_t by) {
    int64_t sum = at.tv_sec * SECOND + at.tv_nsec + by;
    return (struct timespec){sum / SECOND, sum % SECOND};
}

static const struct timespec *back(const struct timespec *at, struct timespec *place) {
    if (!shift || at->tv_sec < EPOCH) return at;
    *place = shifted(*at, -*shift);
    return place;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!real_gettime) begin();
    int failed = real_gettime(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *at = shifted(*at, *shift);
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, const struct timespec *restrict at) {
    struct timespec place;
    if (!real_cond) begin();
    return real_cond(cond, mutex, back(at, &place));
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict at) {
    struct timespec place;
    if (!real_sem) begin();
    return real_sem(sem, back(at, &place));
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left) {
    struct timespec place;
    if (!real_sleep) begin();
    if (clock == CLOCK_REALTIME && (flags & TIMER_ABSTIME)) wanted = back(wanted, &place);
    return real_sleep(clock, flags, wanted, left);
}
