package features

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// containers are the features on which container engines build.
func containers() []Feature {
	return []Feature{
		{"user namespace, as an ordinary user", "become root in a user namespace that nobody made", func() error {
			return inChild("user-namespace", asNobody())
		}},
		{"PID namespace with its own /proc", "be process 1 and see only that one", func() error {
			return inChild("first-process", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS})
		}},
		{"mount namespace and pivot_root", "change the root to a new tmpfs", func() error {
			return inChild("pivot", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS})
		}},
		{"network namespace", "see only its loopback and use that", func() error {
			return inChild("lone-network", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
		}},
		{"UTS and IPC namespaces", "set another host name", func() error {
			return inChild("named", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC})
		}},
		{"time namespace", "unshare(CLONE_NEWTIME)", func() error { return unix.Unshare(unix.CLONE_NEWTIME) }},
		{"cgroup namespace with a cgroup2 mount", "mount cgroup2 in it and make a group", func() error {
			return inChild("own-groups", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS})
		}},
		{"overlay mount, layers on tmpfs", "write through the mount into the upper layer", func() error {
			return inDir(func(dir string) error {
				if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
					return err
				}
				defer unix.Unmount(dir, unix.MNT_DETACH)
				return overlay(dir)
			})
		}},
		{"overlay mount, layers on the disk", "the same below /var/tmp, as engines do below /var/lib", func() error { return inDir(overlay) }},
		{"seccomp filter", "a filter that refuses getppid", seccompFilter},
		{"seccomp user notification", "a filter with a listener", func() error {
			_, err := installFilter(unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
			return err
		}},
	}
}

func newUserNamespace() error {
	return inChild("is-root", &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: nobody, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: nobody, Size: 1}},
	})
}

func isRoot() error { return want(os.Geteuid() == 0, "the user is %d", os.Geteuid()) }

func private() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }

func firstProcess() error {
	if pid := os.Getpid(); pid != 1 {
		return fmt.Errorf("the process is number %d", pid)
	}
	if err := errors.Join(private(), unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		return err
	}
	names, err := filepath.Glob("/proc/[0-9]*")
	return errors.Join(err, want(len(names) == 1, "%d processes are visible", len(names)))
}

func pivot() error {
	if err := private(); err != nil {
		return err
	}
	return inDir(func(dir string) error {
		old := filepath.Join(dir, "old")
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := errors.Join(os.Mkdir(old, 0o700), unix.PivotRoot(dir, old), os.Chdir("/")); err != nil {
			return err
		}
		_, err := os.Stat("/old/etc/passwd")
		return errors.Join(err, unix.Unmount("/old", unix.MNT_DETACH))
	})
}

func loneNetwork() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	if err := want(len(links) == 1, "%d interfaces are visible", len(links)); err != nil {
		return err
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	return echo("tcp4", "127.0.0.1:0")
}

func named() error {
	if err := unix.Sethostname([]byte("probe")); err != nil {
		return err
	}
	name, err := os.Hostname()
	return errors.Join(err, want(name == "probe", "the host name is %s", name))
}

func ownGroups() error {
	if err := private(); err != nil {
		return err
	}
	return inDir(func(dir string) error {
		if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
			return err
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		group := filepath.Join(dir, "probe")
		return errors.Join(os.Mkdir(group, 0o755), os.Remove(group))
	})
}

// overlay mounts an overlay of directories in dir and writes to it.
func overlay(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(at("lower/file"), []byte("old"), 0o644); err != nil {
		return err
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work"))
	if err := unix.Mount("overlay", at("merged"), "overlay", 0, layers); err != nil {
		return err
	}
	defer unix.Unmount(at("merged"), unix.MNT_DETACH)
	if err := os.WriteFile(at("merged/file"), []byte("new"), 0o644); err != nil {
		return err
	}
	upper, err := os.ReadFile(at("upper/file"))
	return errors.Join(err, want(strings.TrimSpace(string(upper)) == "new", "the upper layer has %q", upper))
}
