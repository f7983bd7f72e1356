package gvisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// The files of a snapshot. Those but the seal are written by runsc.
const (
	stateFile = "checkpoint.img"
	metaFile  = "pages_meta.img"
	pagesFile = "pages.img"
	sealFile  = "seal.json"
)

// savedFiles are the files that a seal covers.
var savedFiles = []string{stateFile, metaFile, pagesFile}

// Files implements vmm.Driver. Both forms are complete and have the same files.
func (*Driver) Files(vmm.Form) []vmm.File {
	return []vmm.File{
		{Name: sealFile, Noun: "seal", Summed: true},
		{Name: stateFile, Noun: "kernel state", Summed: true},
		{Name: metaFile, Noun: "memory map", Summed: true},
		{Name: pagesFile, Noun: "memory"},
	}
}

// seal describes a complete snapshot. runsc itself does not notice a change of the
// memory's content.
type seal struct {
	// Runtime is the digest of the program that saved it; no other one can load it.
	Runtime string `json:"runtime"`
	// Agent is the digest of the guest agent's image, RootDigest that of the root image.
	// The snapshot refers to both.
	Agent      string `json:"agent"`
	RootDigest string `json:"root_digest,omitempty"`
	// RootImage is the path of the root image. It is compared only where a seal has no
	// RootDigest: earlier versions wrote none.
	RootImage string `json:"root_image"`
	MemoryMB  int    `json:"memory_mb"`
	DiskMB    int    `json:"disk_mb"`
	// Files are the files by name.
	Files map[string]sealedFile `json:"files"`
}

type sealedFile struct {
	Bytes int64 `json:"bytes"`
	// CRC is a CRC-32C (RFC 3720) of the content.
	CRC uint32 `json:"crc32c"`
}

// newSeal describes the files in dir, saved by a sandbox like of.
func newSeal(dir string, of seal) (seal, error) {
	of.Files = make(map[string]sealedFile)
	for _, name := range savedFiles {
		sum, err := sumFile(filepath.Join(dir, name))
		if err != nil {
			return seal{}, err
		}
		of.Files[name] = sum
	}
	return of, nil
}

func (s seal) write(dir string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, sealFile), data, 0o400)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumFile(path string) (sealedFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return sealedFile{}, err
	}
	defer f.Close()
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, f)
	return sealedFile{Bytes: n, CRC: h.Sum32()}, err
}

// check fails unless the snapshot in dir is whole and can be restored as a sandbox
// like want, whose Files are not used. The error wraps vmm.ErrDamaged, or is of
// kind WrongState, reason "snapshot_incompatible", and names the difference.
func check(dir string, want seal) error {
	data, err := os.ReadFile(filepath.Join(dir, sealFile))
	if err != nil {
		return fmt.Errorf("%w: %w", vmm.ErrDamaged, err)
	}
	var have seal
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%w: %s cannot be read: %w", vmm.ErrDamaged, sealFile, err)
	}
	if err := have.checkFiles(dir); err != nil {
		return err
	}
	return have.checkSame(want)
}

func (s seal) checkFiles(dir string) error {
	for _, name := range savedFiles {
		sealed, ok := s.Files[name]
		if !ok {
			return fmt.Errorf("%w: %s does not name %s", vmm.ErrDamaged, sealFile, name)
		}
		have, err := sumFile(filepath.Join(dir, name))
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", vmm.ErrDamaged, err)
		case have.Bytes != sealed.Bytes:
			return fmt.Errorf("%w: %s has %d bytes, not %d", vmm.ErrDamaged, name, have.Bytes, sealed.Bytes)
		case have != sealed:
			return fmt.Errorf("%w: the content of %s has changed", vmm.ErrDamaged, name)
		}
	}
	return nil
}

func (s seal) checkSame(want seal) error {
	var errs []error
	differ := func(what string, was, is any) {
		if was != is {
			errs = append(errs, fmt.Errorf("%s was %v, is %v", what, was, is))
		}
	}
	differ("runtime", s.Runtime, want.Runtime)
	differ("guest agent", s.Agent, want.Agent)
	if s.RootDigest != "" && want.RootDigest != "" {
		differ("root image", s.RootDigest, want.RootDigest)
	} else {
		differ("root image", s.RootImage, want.RootImage)
	}
	differ("memory_mb", s.MemoryMB, want.MemoryMB)
	differ("disk_mb", s.DiskMB, want.DiskMB)
	if errs == nil {
		return nil
	}
	return fault.Wrap(errors.Join(errs...), fault.WrongState, "snapshot_incompatible",
		"the snapshot belongs to another sandbox or version and cannot be restored here")
}
