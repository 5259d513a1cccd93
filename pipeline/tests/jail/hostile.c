// A program with bad intentions, one for each word on its command line. It ends with 0 when it
// got what it wanted, with 1 when it was kept from it, and says on standard output how.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int kept(const char *what) {
    printf("kept: %s: %s\n", what, strerror(errno));
    return 1;
}

static int got(const char *what) {
    printf("got: %s\n", what);
    return 0;
}

static int answer(const char *what, long result) { return result < 0 ? kept(what) : got(what); }

// Calls fork's system call itself: the C library may use another one.
static long forked(void) {
#ifdef SYS_fork
    long pid = syscall(SYS_fork);
#else
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
    if (pid == 0) _exit(0);
    return pid;
}

static void *sleeper(void *unused) {
    pause();
    return unused;
}

extern char **environ;

int main(int argc, char **argv) {
    const char *wish = argc > 1 ? argv[1] : "";
    const char *more = argc > 2 ? argv[2] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(wish, "tcp")) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0) return kept("socket");
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(more))};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return answer("connect", connect(fd, (struct sockaddr *)&to, sizeof to));
    }
    if (!strcmp(wish, "socket")) return answer("socket", socket(atoi(more), SOCK_RAW, 0));
    if (!strcmp(wish, "unix")) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        size_t length = strlen(more);
        memcpy(to.sun_path, more, length);
        if (more[0] == '@') to.sun_path[0] = 0;
        socklen_t size = offsetof(struct sockaddr_un, sun_path) + length;
        return answer("connect", connect(fd, (struct sockaddr *)&to, size));
    }
    if (!strcmp(wish, "read")) {
        char text[64] = "";
        int fd = open(more, O_RDONLY);
        if (fd < 0 || read(fd, text, sizeof text - 1) < 0) return kept(more);
        return got(text);
    }
    if (!strcmp(wish, "write")) return answer(more, open(more, O_WRONLY | O_CREAT, 0600));
    if (!strcmp(wish, "list")) {
        DIR *dir = opendir(more);
        if (!dir) return kept(more);
        for (struct dirent *entry; (entry = readdir(dir));) printf("%s\n", entry->d_name);
        return 0;
    }
    if (!strcmp(wish, "env")) {
        for (char **entry = environ; *entry; entry++) printf("%s\n", *entry);
        return 0;
    }
    if (!strcmp(wish, "id")) {
        char host[64] = "";
        uid_t r, e, s;
        gid_t rg, eg, sg;
        getresuid(&r, &e, &s);
        getresgid(&rg, &eg, &sg);
        gethostname(host, sizeof host);
        unsigned int head[2] = {0x20080522, 0}, caps[6] = {0};
        syscall(SYS_capget, head, caps);
        printf("uid %d %d %d gid %d %d %d groups %d pid %d ppid %d host %s caps %x nnp %d seccomp %d\n",
               r, e, s, rg, eg, sg, getgroups(0, NULL), getpid(), getppid(), host,
               caps[0] | caps[1] | caps[3] | caps[4], prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
               prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
        return 0;
    }
    if (!strcmp(wish, "files")) {
        for (int fd = 3; fd < 1024; fd++)
            if (fcntl(fd, F_GETFD) >= 0) return got("an open file");
        char byte;
        return read(0, &byte, 1) == 0 ? kept("standard input is empty") : got("standard input");
    }
    if (!strcmp(wish, "memory")) {
        for (size_t all = 0; all < (size_t)4 << 30; all += 1 << 20) {
            char *page = malloc(1 << 20);
            if (!page) {
                printf("kept: %zu MiB\n", all >> 20);
                return 1;
            }
            memset(page, 1, 1 << 20);
        }
        return got("4 GiB");
    }
    if (!strcmp(wish, "memfd")) return answer("memfd", syscall(SYS_memfd_create, "x", 0));
    if (!strcmp(wish, "shm")) return answer("shmget", shmget(IPC_PRIVATE, 1 << 30, IPC_CREAT | 0600));
    if (!strcmp(wish, "tmp")) {
        static char block[1 << 20];
        for (int n = 0; n < 64; n++) {
            char name[32];
            snprintf(name, sizeof name, "/tmp/%d", n);
            int fd = open(name, O_WRONLY | O_CREAT, 0600);
            if (fd < 0 || write(fd, block, sizeof block) != sizeof block) {
                printf("kept: %d MiB in /tmp\n", n);
                return 1;
            }
        }
        return got("64 MiB in /tmp");
    }
    if (!strcmp(wish, "file")) {
        static char block[1 << 20];
        signal(SIGXFSZ, SIG_IGN);
        int fd = open("/out/big", O_WRONLY | O_CREAT, 0600);
        for (int n = 0; n < 64; n++)
            if (write(fd, block, sizeof block) != sizeof block) {
                printf("kept: %d MiB in a file\n", n);
                return 1;
            }
        return got("64 MiB in a file");
    }
    if (!strcmp(wish, "fork")) return answer("fork", forked());
    if (!strcmp(wish, "clib-fork")) return answer("fork", fork());
    if (!strcmp(wish, "threads")) {
        pthread_t thread;
        for (int n = 0; n < 4096; n++)
            if (pthread_create(&thread, NULL, sleeper, NULL)) {
                printf("kept: %d threads\n", n);
                return 1;
            }
        return got("4096 threads");
    }
    if (!strcmp(wish, "spin"))
        for (;;) __asm__ volatile("");
    if (!strcmp(wish, "sleep")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        printf("sleeping\n");
        sleep(600);
        return got("ten minutes");
    }
    if (!strcmp(wish, "ptrace")) return answer("ptrace", ptrace(PTRACE_ATTACH, atoi(more), 0, 0));
    if (!strcmp(wish, "kill")) return answer("kill", kill(atoi(more), SIGKILL));
    if (!strcmp(wish, "mount")) return answer("mount", mount("tmpfs", "/tmp", "tmpfs", 0, ""));
    if (!strcmp(wish, "unshare")) return answer("unshare", unshare(CLONE_NEWUSER));
    if (!strcmp(wish, "clone"))
        return answer("clone", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    if (!strcmp(wish, "clone3")) {
        unsigned long long args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
        return answer("clone3", syscall(SYS_clone3, args, sizeof args));
    }
    if (!strcmp(wish, "setuid")) return answer("setuid", setuid(0));
    if (!strcmp(wish, "io_uring")) return answer("io_uring", syscall(SYS_io_uring_setup, 1, NULL));
    if (!strcmp(wish, "mknod")) return answer("mknod", mknod("/tmp/mem", S_IFCHR | 0600, 0x101));
    if (!strcmp(wish, "exit")) return atoi(more);
    printf("unknown wish %s\n", wish);
    return 2;
}
