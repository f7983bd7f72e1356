package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// kernelSpace is the free space that preparing a kernel needs, in bytes.
const kernelSpace = 512 << 20

// Kernel is a prepared guest kernel.
type Kernel struct {
	// Release is the output of uname -r inside the guest.
	Release string `json:"release"`
	// Package is the Debian package with its version, as "name=version".
	Package string `json:"package"`
	// Digest covers the kernel and every module.
	Digest    string    `json:"digest"`
	CreatedAt time.Time `json:"created_at"`
	// Vmlinux is the path of the uncompressed ELF kernel with a PVH note.
	Vmlinux string `json:"-"`
	// ModuleDir is the path of all its modules, unpacked.
	ModuleDir string `json:"-"`
}

// Kernel returns the current kernel. The error is of kind NotFound when none
// has been prepared.
func (s *Store) Kernel() (Kernel, error) {
	parent := filepath.Join(s.dir, "kernels")
	digest, err := current(parent)
	if errors.Is(err, os.ErrNotExist) {
		return Kernel{}, fault.Wrap(err, fault.NotFound, "kernel_not_prepared",
			"no guest kernel is prepared on this machine; run 'wrenn image build'")
	}
	if err != nil {
		return Kernel{}, err
	}
	dir := filepath.Join(parent, digest)
	var k Kernel
	if err := readJSON(filepath.Join(dir, "kernel.json"), &k); err != nil {
		return Kernel{}, err
	}
	k.Vmlinux = filepath.Join(dir, "vmlinux")
	k.ModuleDir = filepath.Join(dir, "modules", k.Release)
	return k, nil
}

// EnsureKernel returns the current kernel after checking its content, and
// prepares one if there is none or it is damaged. That takes some seconds
// and needs Debian's archive.
func (s *Store) EnsureKernel(ctx context.Context, progress Progress) (Kernel, error) {
	release, err := s.lock(ctx, "kernel", progress)
	if err != nil {
		return Kernel{}, err
	}
	defer release()
	k, err := s.Kernel()
	if err == nil {
		progress.report("check", "kernel "+k.Release)
		if err = k.verify(); err == nil {
			return k, nil
		}
		s.log.Warn("the prepared kernel is damaged and is built again", "error", err)
		if err := os.RemoveAll(filepath.Dir(k.Vmlinux)); err != nil {
			return Kernel{}, err
		}
	}
	return s.buildKernel(ctx, progress)
}

// RefreshKernel prepares the newest kernel of the suite and makes it the
// current one, even if another one is current.
func (s *Store) RefreshKernel(ctx context.Context, progress Progress) (Kernel, error) {
	release, err := s.lock(ctx, "kernel", progress)
	if err != nil {
		return Kernel{}, err
	}
	defer release()
	return s.buildKernel(ctx, progress)
}

func (k Kernel) verify() error {
	digest, err := digestTree(filepath.Dir(k.Vmlinux), "kernel.json")
	if err != nil {
		return err
	}
	if digest != k.Digest {
		return fmt.Errorf("kernel %s: content has digest %s, want %s", k.Release, digest, k.Digest)
	}
	return nil
}

// buildKernel needs the lock "kernel".
func (s *Store) buildKernel(ctx context.Context, progress Progress) (_ Kernel, err error) {
	if err := requireTools("dpkg-deb", "xz"); err != nil {
		return Kernel{}, err
	}
	if err := s.requireSpace(kernelSpace); err != nil {
		return Kernel{}, err
	}
	work, err := s.buildDir("kernel")
	if err != nil {
		return Kernel{}, s.noSpace(err)
	}
	defer func() { err = s.noSpace(errors.Join(err, os.RemoveAll(work))) }()
	deb, err := s.downloadKernel(ctx, work, progress)
	if err != nil {
		return Kernel{}, err
	}
	progress.report("pack", "unpacking "+filepath.Base(deb))
	unpacked := filepath.Join(work, "unpacked")
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, unpacked).CombinedOutput(); err != nil {
		return Kernel{}, fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	k := Kernel{Package: packageOf(deb), CreatedAt: time.Now().UTC()}
	ready := filepath.Join(work, "ready")
	if k.Release, err = assembleKernel(ready, unpacked); err != nil {
		return Kernel{}, err
	}
	if k.Digest, err = digestTree(ready); err != nil {
		return Kernel{}, err
	}
	if err := writeJSON(filepath.Join(ready, "kernel.json"), k); err != nil {
		return Kernel{}, err
	}
	progress.report("publish", "kernel "+k.Release)
	if err := publish(ready, filepath.Join(s.dir, "kernels"), k.Digest); err != nil {
		return Kernel{}, err
	}
	return s.Kernel()
}

// kernelHook runs outside of any chroot, with $1 the private apt root. It
// downloads the package that the kernel metapackage depends on into the
// directory that the words before it change to. Older mmdebstrap leaves
// APT_CONFIG set, newer ones say where it was.
const kernelHook = `export APT_CONFIG="${MMDEBSTRAP_APT_CONFIG:-$APT_CONFIG}"
package=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
apt-get download "$package"`

// downloadKernel fetches the suite's cloud kernel into work and returns the
// path of the package. Apt works in a private root, so that every host gets
// the same kernel line, regardless of its own kernel.
func (s *Store) downloadKernel(ctx context.Context, work string, progress Progress) (string, error) {
	err := s.run(ctx, bootstrap{
		suite: Suite, variant: "custom", target: "/dev/null", workDir: work,
		args: []string{"--customize-hook=cd " + shellQuote(work) + "\n" + kernelHook},
	}, progress)
	if err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(work, "linux-image-*.deb"))
	if err != nil || len(debs) != 1 {
		return "", errors.Join(err, fmt.Errorf("apt downloaded %d kernel packages, want one", len(debs)))
	}
	return debs[0], nil
}

// packageOf turns NAME_VERSION_ARCH.deb into NAME=VERSION.
func packageOf(deb string) string {
	parts := strings.Split(filepath.Base(deb), "_")
	if len(parts) != 3 {
		return filepath.Base(deb)
	}
	return parts[0] + "=" + parts[1]
}

// assembleKernel fills ready from an unpacked kernel package and returns the
// kernel's release.
func assembleKernel(ready, unpacked string) (release string, err error) {
	images, err := filepath.Glob(filepath.Join(unpacked, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return "", errors.Join(err, fmt.Errorf("the kernel package has %d kernels, want one", len(images)))
	}
	release = strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	bzImage, err := os.ReadFile(images[0])
	if err != nil {
		return "", err
	}
	vmlinux, err := extractVmlinux(bzImage)
	if err != nil {
		return "", fmt.Errorf("kernel %s: %w", release, err)
	}
	if err := mkdir(ready); err != nil {
		return "", err
	}
	path := filepath.Join(ready, "vmlinux")
	if err := os.WriteFile(path, vmlinux, 0o644); err != nil {
		return "", err
	}
	if err := os.Chmod(path, 0o644); err != nil {
		return "", err
	}
	modules, err := filepath.Glob(filepath.Join(unpacked, "*", "modules", release))
	if usr, _ := filepath.Glob(filepath.Join(unpacked, "usr", "lib", "modules", release)); len(usr) == 1 {
		modules = usr // Debian 13 and later
	}
	if err != nil || len(modules) != 1 {
		return "", errors.Join(err, fmt.Errorf("the kernel package has no modules for %s", release))
	}
	return release, copyModules(filepath.Join(ready, "modules", release), modules[0])
}
