/* Records what survives a loss of power: preloaded into a program, it keeps for every file and
 * directory the content that it had when it was last synced. A world restored from that record has lost
 * every write, and every name, that was not synced.
 *
 * $SLIPWAY_SYNCED is the record: `file-INODE` is a copy of a file at its last fsync, `dir-INODE` the
 * names of a directory at its last fsync, one "INODE d|f NAME" per line.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A copy appears under its final name only when it is whole. */
static void finish(int out, const char *temporary, const char *final) {
  close(out);
  rename(temporary, final);
}

static void record(int fd) {
  const char *root = getenv("SLIPWAY_SYNCED");
  struct stat about;
  if (root == NULL || fstat(fd, &about) != 0) return;
  int directory = S_ISDIR(about.st_mode);
  if (!directory && !S_ISREG(about.st_mode)) return;

  char final[4096], temporary[4200], self[64];
  snprintf(final, sizeof final, "%s/%s-%lu", root, directory ? "dir" : "file", (unsigned long)about.st_ino);
  snprintf(temporary, sizeof temporary, "%s.%d.tmp", final, gettid());
  int out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (out < 0) abort();
  /* The descriptor may be write-only, and its offset is the program's own. */
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);

  if (directory) {
    DIR *names = opendir(self);
    if (names == NULL) abort();
    struct dirent *entry;
    while ((entry = readdir(names)) != NULL) {
      struct stat child;
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      if (fstatat(dirfd(names), entry->d_name, &child, AT_SYMLINK_NOFOLLOW) != 0) continue;
      dprintf(out, "%lu %c %s\n", (unsigned long)child.st_ino, S_ISDIR(child.st_mode) ? 'd' : 'f', entry->d_name);
    }
    closedir(names);
  } else {
    int in = open(self, O_RDONLY);
    if (in < 0) abort();
    char block[65536];
    ssize_t count;
    while ((count = read(in, block, sizeof block)) > 0)
      if (write(out, block, (size_t)count) != count) abort();
    close(in);
  }
  finish(out, temporary, final);
}

#define SYNC(name)                                                      \
  int name(int fd) {                                                    \
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name);           \
    int result = real(fd);                                              \
    if (result == 0) record(fd);                                        \
    return result;                                                      \
  }

SYNC(fsync)
SYNC(fdatasync)
