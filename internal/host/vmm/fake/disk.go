package fake

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// The first block of a disk that a fake guest has used is a header. The archive
// of the guest's files follows it.
const (
	diskMagic  = "FAKEDISK"
	diskHeader = 4096
	// maxHeader bounds the JSON in a header or in a state file, in bytes.
	maxHeader = 1024
)

// header is the JSON of a disk's header.
type header struct {
	Magic string
	Stamp string // of the stop at which the archive was written; empty while the guest runs
	Size  int64  // of the archive
}

// deviceState is the JSON of a state file.
type deviceState struct {
	Magic    string
	Stamp    string
	VCPUs    int
	MemoryMB int
}

const stateMagic = "FAKESTATE"

// saveState writes the device state of a stopped VM. mu must be held.
func (p *process) saveState(path string) error {
	if p.running {
		return errors.New("the VM runs")
	}
	data, err := json.Marshal(p.deviceState())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// deviceState returns the device state. mu must be held.
func (p *process) deviceState() deviceState {
	return deviceState{stateMagic, p.stamp, p.cfg.VCPUs, p.cfg.MemoryMB}
}

// fits refuses a state of a VM of another size.
func (s *deviceState) fits(cfg vmm.Config) error {
	if s.VCPUs != cfg.VCPUs || s.MemoryMB != cfg.MemoryMB {
		return errors.New("the state is that of a VM of another size")
	}
	return nil
}

func readState(path string) (*deviceState, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s deviceState
	if len(data) > maxHeader || json.Unmarshal(data, &s) != nil || s.Magic != stateMagic {
		return nil, fmt.Errorf("%s is no device state of a fake VM", path)
	}
	return &s, nil
}

// archive returns an archive of the files below root.
func archive(root string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := errors.Join(w.AddFS(os.DirFS(root)), w.Close())
	return out.Bytes(), err
}

// writeDisk writes an archive of the guest's files to the disk at path.
func writeDisk(path, stamp string, files []byte) error {
	return withDisk(path, func(f *os.File) error {
		if _, err := f.WriteAt(files, diskHeader); err != nil {
			return err
		}
		return writeHeader(f, header{diskMagic, stamp, int64(len(files))})
	})
}

// spoilDisk takes the stamp from a disk. A boot still finds the files of the last stop.
func spoilDisk(path string) error {
	return withDisk(path, func(f *os.File) error {
		h, err := readHeader(f)
		if err != nil {
			return err
		}
		return writeHeader(f, header{Magic: diskMagic, Size: h.Size})
	})
}

// withDisk calls use with the disk at path, which it opens for reading and
// writing.
func withDisk(path string, use func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(use(f), f.Close())
}

func writeHeader(f *os.File, h header) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	block := make([]byte, diskHeader)
	copy(block, data)
	_, err = f.WriteAt(block, 0)
	return err
}

// bootDisk unpacks the files of the disk that a new guest finds, if it has been used.
func (p *process) bootDisk() error {
	if p.cfg.DiskContent != "" {
		files, err := os.ReadFile(p.cfg.DiskContent)
		if err != nil {
			return err
		}
		return unpack(bytes.NewReader(files), p.root)
	}
	if p.cfg.Disk == "" {
		return nil
	}
	return withDisk(p.cfg.Disk, func(f *os.File) error {
		h, err := readHeader(f)
		if err != nil || h.Magic == "" {
			return err
		}
		return unpack(io.NewSectionReader(f, diskHeader, h.Size), p.root)
	})
}

// saveDisk writes the archive of a stopped guest's files, of at most limit bytes, to the
// new file path. mu must be held.
func (p *process) saveDisk(path string, limit int64) error {
	if p.running {
		return errors.New("the VM runs")
	}
	if int64(len(p.files)) > limit {
		return vmm.ErrDiskTooLarge
	}
	return os.WriteFile(path, p.files, 0o600)
}

// readHeader returns the header of a disk; the zero header of a disk that no guest has
// used.
func readHeader(f *os.File) (h header, err error) {
	block := make([]byte, diskHeader)
	if _, err := f.ReadAt(block, 0); err != nil {
		return h, err
	}
	if json.Unmarshal(bytes.TrimRight(block, "\x00"), &h) != nil || h.Magic != diskMagic {
		return header{}, nil
	}
	return h, nil
}

// readDisk unpacks the files of the disk at path, written at the stop with
// stamp, into root.
func readDisk(path, stamp, root string) error {
	return withDisk(path, func(f *os.File) error {
		h, err := readHeader(f)
		if err != nil {
			return err
		}
		if h.Magic == "" || h.Stamp != stamp {
			return fmt.Errorf("the disk was written at the stop %q, the device state at %q", h.Stamp, stamp)
		}
		return unpack(io.NewSectionReader(f, diskHeader, h.Size), root)
	})
}

func unpack(archive io.Reader, root string) error {
	r := tar.NewReader(archive)
	for {
		entry, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		path, mode := filepath.Join(root, entry.Name), os.FileMode(entry.Mode).Perm()
		if entry.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, mode|0o700)
		} else {
			err = unpackFile(path, mode, r)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(path string, mode os.FileMode, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// beginCopy begins a copy of the disk to dst. mu must be held, as in endCopy and
// abandonCopy.
func (p *process) beginCopy(dst *os.File) error {
	p.abandonCopy()
	fd, err := unix.FcntlInt(dst.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.copying = os.NewFile(uintptr(fd), dst.Name())
	if err := copyDisk(p.copying, p.cfg.Disk); err != nil {
		p.abandonCopy()
		return err
	}
	return nil
}

func (p *process) endCopy() error {
	if p.copying == nil || p.running {
		return errors.New("no copy of the disk is under way, or the VM runs")
	}
	err := copyDisk(p.copying, p.cfg.Disk)
	if err == nil {
		p.abandonCopy()
	}
	return err
}

func (p *process) abandonCopy() {
	if p.copying != nil {
		_ = p.copying.Close()
		p.copying = nil
	}
}

// copyDisk writes the data of the disk at path to dst, which is as long.
func copyDisk(dst *os.File, path string) error {
	return withDisk(path, func(src *os.File) error {
		for at := int64(0); ; {
			start, err := unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				return nil
			}
			if err != nil {
				return err
			}
			if at, err = unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE); err != nil {
				return err
			}
			if _, err := io.Copy(io.NewOffsetWriter(dst, start), io.NewSectionReader(src, start, at-start)); err != nil {
				return err
			}
		}
	})
}
