package qemu

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
)

// StartUnjailed starts cfg as Start does, but without the jail. The benchmark
// compares the jail with it.
func (d *Driver) StartUnjailed(ctx context.Context, cfg vmm.Config) (vmm.VM, error) {
	memory, err := bootMemory(cfg)
	if err != nil {
		return nil, err
	}
	files, err := d.openFiles(d.current.version, cfg)
	if err != nil {
		return nil, err
	}
	defer files.close()
	path, argv, env := d.current.Command(d.current.Dir, d.argv(d.current.version, cfg, false)...)
	outside := strings.NewReplacer("mem-path="+jail.Memory, "mem-path="+memory, jail.Kernel, d.boot.Kernel, jail.Initrd, d.boot.Initrd)
	for i, a := range argv {
		if strings.Contains(a, "mem-path=") || a == jail.Kernel || a == jail.Initrd {
			argv[i] = outside.Replace(a)
		}
	}
	messages := &tail{}
	cmd := &exec.Cmd{
		Path: path, Args: argv, Dir: "/", Env: append(env, dirVariable+cfg.Dir), Stderr: messages,
		ExtraFiles: []*os.File{files.monitor, files.tap, nil, files.kvm, files.root, files.disk},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid: true, Credential: &syscall.Credential{Uid: uint32(cfg.UID), Gid: uint32(cfg.GID)},
		},
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return d.attachChild(ctx, cfg, memory, cmd, messages)
}
