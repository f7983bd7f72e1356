package features

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kernel are the settings of a kernel, and the devices that it gives.
func kernel() []Feature {
	sysctl := func(name, value string) func() error { return func() error { return setting(name, value) } }
	return []Feature{
		{"a Linux kernel of its own", "uname does not name gVisor", func() error {
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil {
				return err
			}
			release := unix.ByteSliceToString(u.Release[:])
			return want(!strings.HasSuffix(release, "-gvisor"), "%s", release)
		}},
		{"kernel modules", "the kernel reads a module, and refuses an empty one", func() error {
			nothing, none := []byte{0}, []byte{0}
			err := errnoOf(unix.Syscall(unix.SYS_INIT_MODULE, uintptr(unsafePointer(&nothing[0])), 1, uintptr(unsafePointer(&none[0]))))
			if err == unix.ENOEXEC {
				return nil
			}
			return err
		}},
		{"/dev/kvm", "make a virtual machine", func() error {
			f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			const createVM = 0xae01
			_, err = unix.IoctlRetInt(int(f.Fd()), createVM)
			return err
		}},
		{"vm.overcommit_memory", "set it", sysctl("vm/overcommit_memory", "1")},
		{"vm.max_map_count", "set it, as search engines ask for", sysctl("vm/max_map_count", "262144")},
		{"net.core.somaxconn", "set it", sysctl("net/core/somaxconn", "8192")},
		{"fs.inotify.max_user_watches", "set it", sysctl("fs/inotify/max_user_watches", "524288")},
		{"kernel.shmmax", "set it", sysctl("kernel/shmmax", "1073741824")},
		{"kernel.core_pattern", "set it", sysctl("kernel/core_pattern", "core.%p")},
		{"host name", "sethostname", func() error {
			name, err := os.Hostname()
			if err != nil {
				return err
			}
			return unix.Sethostname([]byte(name))
		}},
		{"clock", "set it to the time that it has", func() error {
			now := unix.NsecToTimespec(time.Now().UnixNano())
			return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
		}},
		{"kernel messages", "read them, as dmesg does", func() error {
			_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 4096))
			return err
		}},
		{"/proc/pressure", "read memory", readable("/proc/pressure/memory")},
		{"/proc/config.gz or /boot/config", "the options of the kernel", func() error {
			if readable("/proc/config.gz")() == nil {
				return nil
			}
			found, _ := filepath.Glob("/boot/config-*")
			return want(len(found) > 0, "absent")
		}},
		{"/sys/class/net", "the address of eth0", readable("/sys/class/net/eth0/address")},
		{"/sys/block", "the disk's size", readable("/sys/block/vdb/size")},
	}
}

func readable(path string) func() error {
	return func() error {
		_, err := os.ReadFile(path)
		return err
	}
}
