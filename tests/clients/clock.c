/* A clock that can be set without disturbing others: LD_PRELOAD this, and the time of day is so many seconds ahead as the
 * file named by CLOCK_OFFSET says. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int) syscall(SYS_clock_gettime, clock, time);
    const char *name = getenv("CLOCK_OFFSET");
    if (result == 0 && clock == CLOCK_REALTIME && name != NULL) {
        char text[32] = "";
        int file = open(name, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            ssize_t length = read(file, text, sizeof(text) - 1);
            close(file);
            if (length > 0)
                time->tv_sec += atol(text);
        }
    }
    return result;
}
