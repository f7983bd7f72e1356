package kvmprobe

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

const cacheName = "kvmprobe.json"

// cached is the file's content. Boot and Kernel are the key: within one boot
// of one kernel the quality of an open /dev/kvm does not change.
type cached struct {
	Boot   string `json:"boot_id"`
	Kernel string `json:"kernel"`
	Report Report `json:"report"`
}

// Cached returns the report kept in dir if it was made in this boot and
// /dev/kvm still opens, and otherwise probes and keeps the new one. A report
// of None is never kept: it is quick to find again, and an operator may fix
// its cause. Errors concern the file only; the report is valid in any case.
func Cached(ctx context.Context, dir string) (Report, error) {
	boot, kernel, err := thisBoot()
	if err != nil {
		return Probe(ctx), err
	}
	path := filepath.Join(dir, cacheName)
	if r, ok := load(path, boot, kernel); ok && deviceOpens() {
		return r, nil
	}
	r := Probe(ctx)
	if r.Support == None {
		return r, nil
	}
	return r, store(path, cached{Boot: boot, Kernel: kernel, Report: r})
}

func load(path, boot, kernel string) (Report, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Report{}, false
	}
	var c cached
	if err := json.Unmarshal(text, &c); err != nil || c.Boot != boot || c.Kernel != kernel {
		return Report{}, false
	}
	return c.Report, c.Report.Stage == StageDone
}

// store replaces the file in one step, so that a reader never sees half of it.
func store(path string, c cached) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fault.Wrap(err, fault.Internal, "probe_not_cached", "the KVM probe's result cannot be encoded")
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), cacheName+".*")
	if err == nil {
		_, err = tmp.Write(append(text, '\n'))
		if closeErr := tmp.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = os.Rename(tmp.Name(), path)
		}
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "probe_not_cached", "the KVM probe's result cannot be kept")
	}
	return nil
}

func thisBoot() (boot, kernel string, err error) {
	id, err := proc.BootID()
	if err != nil {
		return "", "", fault.Wrap(err, fault.Internal, "no_boot_id", "the kernel's boot id cannot be read")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", "", fault.Wrap(err, fault.Internal, "no_uname", "the kernel's release cannot be read")
	}
	return id, unix.ByteSliceToString(u.Release[:]), nil
}

func deviceOpens() bool {
	fd, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
