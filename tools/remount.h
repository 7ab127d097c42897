/*
 * mount -o remount,...: mount(8) calls its helper for that as well, with the options that the
 * mount has and those that are asked for.
 */
#pragma once

/*
 * Changes the flags of the mount of ours at mountpoint to what the list says: "ro", "noexec" and
 * their like, the later of two counts. Those that it does not name stay, and so do all other
 * options. Returns the exit code, having said why.
 */
int remount(const char *mountpoint, const char *list);
