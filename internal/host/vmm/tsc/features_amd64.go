package tsc

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// features returns the registers of the CPUID leaves that hold feature bits
// (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E).
func features() string {
	var words []string
	add := func(registers ...uint32) {
		for _, r := range registers {
			words = append(words, fmt.Sprintf("%08x", r))
		}
	}
	_, _, c, d := cpuid(1, 0)
	add(c, d)
	_, b, c, d := cpuid(7, 0)
	a, _, _, _ := cpuid(7, 1)
	add(b, c, d, a)
	a, _, _, d = cpuid(0xd, 0) // which registers XSAVE keeps
	xsave, _, _, _ := cpuid(0xd, 1)
	add(a, d, xsave)
	_, _, c, d = cpuid(0x80000001, 0)
	_, b, _, _ = cpuid(0x80000008, 0)
	add(c, d, b)
	return strings.Join(words, ".")
}

// Request and capability numbers of linux/kvm.h.
const (
	kvmCheckExtension = 0xae03
	kvmCapTSCControl  = 60
)

func scaling() bool {
	dev, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dev)
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(dev), kvmCheckExtension, kvmCapTSCControl)
	return errno == 0 && n > 0
}
