package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// checkpoint is the JSON of the only file of a saved VM whose disk is saved with
// it. Both forms of a snapshot have the same file.
type checkpoint struct {
	Magic string
	deviceState
	Memory []byte // the used part of guest memory
	Files  []byte // an archive of the guest's files
}

const (
	checkpointMagic = "FAKECHECKPOINT"
	checkpointName  = "checkpoint"
)

// checkpointFile is the path of the checkpoint to restore from. A delta is
// complete, so that its base is not read.
func checkpointFile(from vmm.Image) string {
	if from.Delta != "" {
		return filepath.Join(from.Delta, checkpointName)
	}
	return filepath.Join(from.Base, checkpointName)
}

// saveCheckpoint writes the stopped VM to the directory dir. mu must be held.
func (p *process) saveCheckpoint(dir string) error {
	if p.running {
		return errors.New("the VM runs")
	}
	data, err := json.Marshal(checkpoint{checkpointMagic, p.deviceState(), p.mem[:used], p.files})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, checkpointName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// readCheckpoint reads a checkpoint. The error wraps vmm.ErrDamaged.
func readCheckpoint(path string) (*checkpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Join(vmm.ErrDamaged, err)
	}
	var c checkpoint
	if json.Unmarshal(data, &c) != nil || c.Magic != checkpointMagic || len(c.Memory) != used {
		return nil, fmt.Errorf("%w: %s is no checkpoint of a fake VM", vmm.ErrDamaged, path)
	}
	return &c, nil
}

// restoreCheckpoint starts cfg from a checkpoint. The VM runs.
func (d *Driver) restoreCheckpoint(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	c, err := readCheckpoint(checkpointFile(from))
	if err != nil {
		return nil, err
	}
	if err := c.fits(cfg); err != nil {
		return nil, err
	}
	p, err := d.launch(ctx, cfg, func(p *process) error {
		if err := p.loadMemory(ctx, vmm.Image{}); err != nil {
			return err
		}
		copy(p.mem, c.Memory)
		return p.loadGuest(&c.deviceState, func() error { return unpack(bytes.NewReader(c.Files), p.root) })
	})
	if err != nil {
		return nil, err
	}
	return d.run(p)
}

// checkpointSave is a whole snapshot of a checkpointed VM in the making.
type checkpointSave struct {
	process *process
	dir     string
}

// Ahead implements vmm.Save. Nothing can be saved of a VM that runs.
func (checkpointSave) Ahead(context.Context) error { return nil }

// Finish implements vmm.Save.
func (s checkpointSave) Finish(ctx context.Context) (vmm.SaveStats, error) {
	err := s.process.call(ctx, func() error { return s.process.saveCheckpoint(s.dir) })
	return vmm.SaveStats{Dirty: used, Kept: used}, err
}

// Close implements vmm.Save.
func (checkpointSave) Close() error { return nil }

// flattenCheckpoint copies the checkpoint of from.
func flattenCheckpoint(ctx context.Context, from vmm.Image, dir string) error {
	_, err := disk.Clone(ctx, filepath.Join(dir, checkpointName), checkpointFile(from))
	return err
}
