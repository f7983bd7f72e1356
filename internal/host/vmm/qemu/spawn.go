package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
	"github.com/wrenn-dev/wrenn/internal/linux/thread"
)

// spawn starts build b for cfg, in its jail, with the file memory as guest memory
// and the descriptors that argv promises. The process gets a session of its own and no tie to this one, so
// that it outlives the agent; its messages go to a pipe whose loss it ignores.
func (d *Driver) spawn(b build, cfg vmm.Config, memory string, state *os.File) (*exec.Cmd, *tail, error) {
	files, err := d.openFiles(b.version, cfg)
	if err != nil {
		return nil, nil, err
	}
	defer files.close()
	spec, err := d.jailSpec(b, cfg, memory, state != nil, files)
	if err != nil {
		return nil, nil, err
	}
	cmd, err := d.jail.Command(spec, files.monitor, files.tap, state, files.kvm, files.root, files.disk) // from fdMonitor on
	if err != nil {
		return nil, nil, err
	}
	messages := &tail{}
	cmd.Stderr = messages
	cmd.WaitDelay = time.Second // for the pipe, should a descendant hold it
	if cfg.Cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(cfg.Cgroup.Fd())
	}
	err = thread.Own(func() error {
		if err := cgroupfs.JoinThread(cfg.Cgroup); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("start the launcher of QEMU %s: %w", b.version, err)
	}
	return cmd, messages, nil
}

// vmFiles are the files that a VM process gets open. kvm is nil where it is not needed.
type vmFiles struct{ monitor, tap, kvm, root, disk *os.File }

func (d *Driver) openFiles(v version, cfg vmm.Config) (*vmFiles, error) {
	f := new(vmFiles)
	for _, o := range []struct {
		into **os.File
		what string
		open func() (*os.File, error)
	}{
		{&f.monitor, "QMP socket", func() (*os.File, error) { return listenMonitor(cfg.Dir) }},
		{&f.tap, "tap", cfg.Network.OpenTap},
		{&f.kvm, "KVM", func() (*os.File, error) { return d.openKVM(v) }},
		{&f.root, "root image", func() (*os.File, error) { return os.Open(cfg.RootImage) }},
		{&f.disk, "disk", func() (*os.File, error) { return os.OpenFile(cfg.Disk, os.O_RDWR, 0) }},
	} {
		var err error
		if *o.into, err = o.open(); err != nil {
			f.close()
			return nil, fmt.Errorf("open %s: %w", o.what, err)
		}
	}
	return f, nil
}

// close closes the open files; a nil file does nothing.
func (f *vmFiles) close() {
	for _, file := range []*os.File{f.monitor, f.tap, f.kvm, f.root, f.disk} {
		_ = file.Close()
	}
}

// openKVM returns /dev/kvm for a VM process that is to get it open, else nil.
func (d *Driver) openKVM(v version) (*os.File, error) {
	if !d.kvmByFd(v) {
		return nil, nil
	}
	return os.OpenFile("/dev/kvm", os.O_RDWR, 0)
}

// jailSpec describes the process of cfg: QEMU, and in its jail the few files
// that it opens by name.
func (d *Driver) jailSpec(b build, cfg vmm.Config, memory string, restoring bool, files *vmFiles) (jail.Spec, error) {
	path, argv, env := b.Command(jail.ProgramDir, d.argv(b.version, cfg, restoring)...)
	s := jail.Spec{
		Path: path, Argv: argv, Env: append(env, dirVariable+cfg.Dir),
		UID: cfg.UID, GID: cfg.GID, KVM: d.info.Acceleration == vmm.KVM,
		Binds: []jail.Bind{
			{From: b.Dir, To: jail.ProgramDir, Exec: true},
			{From: "/dev/null", To: jail.Null, Write: true, Device: true},
			{From: memory, To: jail.Memory, Write: !b.version.memoryReadOnly()},
		},
	}
	if !restoring {
		s.Binds = append(s.Binds, jail.Bind{From: d.boot.Kernel, To: jail.Kernel}, jail.Bind{From: d.boot.Initrd, To: jail.Initrd})
	}
	if s.KVM && !d.kvmByFd(b.version) {
		s.Binds = append(s.Binds, jail.Bind{From: "/dev/kvm", To: jail.KVM, Write: true, Device: true})
	}
	var err error
	if s.Groups, err = groupsOf(s.Binds); err != nil {
		return s, err
	}
	// Room for the largest file that it writes: its disk, or memory.
	disk, err := files.disk.Stat()
	if err == nil {
		s.FileBytes = max(uint64(disk.Size()), uint64(cfg.MemoryMB)<<20)
	}
	return s, err
}

// groupsOf returns the groups of the bound files without root's: a file that
// several VMs share belongs to root and to a group of its own, which a VM process
// joins for the files in its jail.
func groupsOf(binds []jail.Bind) ([]int, error) {
	var groups []int
	for _, b := range binds {
		st, err := os.Stat(b.From)
		if err != nil {
			return nil, err
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return nil, errors.New("files have no owner here")
		}
		if sys.Gid != 0 {
			groups = append(groups, int(sys.Gid))
		}
	}
	return groups, nil
}
