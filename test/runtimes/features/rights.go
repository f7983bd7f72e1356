package features

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileRights are the names, owners and attributes of files on the sandbox's disk.
func fileRights() []Feature {
	attribute := func(name string, value []byte) func() error {
		return func() error {
			return withFile(func(f *os.File) error {
				if err := unix.Setxattr(f.Name(), name, value, 0); err != nil {
					return err
				}
				got := make([]byte, len(value))
				_, err := unix.Getxattr(f.Name(), name, got)
				return errors.Join(err, want(string(got) == string(value), "it has the value %q", got))
			})
		}
	}
	return []Feature{
		{"user extended attributes", "set one and read it", attribute("user.probe", []byte("value"))},
		{"trusted extended attributes", "set one and read it", attribute("trusted.probe", []byte("value"))},
		{"POSIX access control lists", "nobody reads a file that only its list allows", accessList},
		{"file capabilities", "nobody has one in a program with it", fileCapability},
		{"set-user-ID programs", "nobody is root in one", setUserID},
		{"sudo", "the user of the template becomes root", func() error {
			cmd := exec.Command("sudo", "-n", "true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
			return result(cmd)
		}},
		{"immutable files", "chattr +i", func() error {
			return withFile(func(f *os.File) error {
				// The other flags stay: without that of extents, ext4 would convert the file.
				flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
				if err != nil {
					return err
				}
				const immutable = 0x10
				if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|immutable); err != nil {
					return err
				}
				return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
			})
		}},
		{"exchange of two names", "renameat2(RENAME_EXCHANGE)", func() error {
			return withFile(func(a *os.File) error {
				return withFile(func(b *os.File) error {
					return unix.Renameat2(unix.AT_FDCWD, a.Name(), unix.AT_FDCWD, b.Name(), unix.RENAME_EXCHANGE)
				})
			})
		}},
		{"hard links", "make one", func() error {
			return withFile(func(f *os.File) error { return os.Link(f.Name(), f.Name()+"-2") })
		}},
		{"device nodes", "a null device of its own", deviceNode},
		{"file handles", "name_to_handle_at and open_by_handle_at", func() error {
			handle, mount, err := unix.NameToHandleAt(unix.AT_FDCWD, "/etc/passwd", 0)
			_ = mount
			if err != nil {
				return err
			}
			dir, err := unix.Open("/", unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			fd, err := unix.OpenByHandleAt(dir, handle, unix.O_RDONLY)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}},
	}
}

// aclFor is the list user::rw-, user:UID:r--, group::---, mask::r--, other::---, as in
// linux/posix_acl_xattr.h.
func aclFor(uid uint32) []byte {
	none := ^uint32(0)
	list := binary.NativeEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, rights uint16
		id          uint32
	}{{1, 6, none}, {2, 4, uid}, {4, 0, none}, {16, 4, none}, {32, 0, none}} {
		list = binary.NativeEndian.AppendUint16(list, e.tag)
		list = binary.NativeEndian.AppendUint16(list, e.rights)
		list = binary.NativeEndian.AppendUint32(list, e.id)
	}
	return list
}

func accessList() error {
	return withFile(func(f *os.File) error {
		if err := errors.Join(os.Chmod(filepath.Dir(f.Name()), 0o755), os.Chmod(f.Name(), 0o600)); err != nil {
			return err
		}
		reads := func() bool {
			cmd := exec.Command("cat", f.Name())
			cmd.SysProcAttr = asNobody()
			return cmd.Run() == nil
		}
		if reads() {
			return errors.New("the file's mode has no effect")
		}
		if err := unix.Setxattr(f.Name(), "system.posix_acl_access", aclFor(nobody), 0); err != nil {
			return err
		}
		return want(reads(), "the list has no effect")
	})
}

// asProgram calls do with a copy of this program that everybody may run.
func asProgram(do func(path string) error) error {
	return inDir(func(dir string) error {
		data, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "program")
		if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, data, 0o755), os.Chmod(path, 0o755)); err != nil {
			return err
		}
		return do(path)
	})
}

func setUserID() error {
	return asProgram(func(path string) error {
		if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
			return err
		}
		return result(commandOf(path, "is-root", asNobody()))
	})
}

func fileCapability() error {
	return asProgram(func(path string) error {
		// struct vfs_cap_data: revision 2, effective; permitted has CAP_NET_RAW (13).
		value := make([]byte, 20)
		binary.LittleEndian.PutUint32(value, 0x02000001)
		binary.LittleEndian.PutUint32(value[4:], 1<<unix.CAP_NET_RAW)
		if err := unix.Setxattr(path, "security.capability", value, 0); err != nil {
			return err
		}
		return result(commandOf(path, "capable", asNobody()))
	})
}

func capable() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	return want(strings.Contains(string(status), "CapEff:\t0000000000002000"), "the program has no capability")
}

func deviceNode() error {
	return inDir(func(dir string) error {
		path := filepath.Join(dir, "null")
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("gone")
		return errors.Join(err, f.Close())
	})
}
