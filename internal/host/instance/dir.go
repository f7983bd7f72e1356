package instance

import "path/filepath"

// Dir is the directory of one instance.
type Dir string

// Disk is the path of the writable disk.
func (d Dir) Disk() string { return filepath.Join(string(d), "disk") }

// NextDisk is the path of the disk of a resume that is not committed yet.
func (d Dir) NextDisk() string { return filepath.Join(string(d), "disk.next") }

// Boot is the path of the base called name, of a VM that has booted from its disk.
func (d Dir) Boot(name string) string { return filepath.Join(string(d), name) }

// EndedProcesses is the path of the records of the processes that boots have ended, and
// NextEndedProcesses that for the next boot.
func (d Dir) EndedProcesses() string     { return filepath.Join(string(d), "processes") }
func (d Dir) NextEndedProcesses() string { return filepath.Join(string(d), "processes.next") }

// DiskContent is the path of the content of a disk of the driver, for a boot.
func (d Dir) DiskContent() string { return filepath.Join(string(d), "disk.content") }

// VM is the path of the VM process's own directory.
func (d Dir) VM() string { return filepath.Join(string(d), "vm") }

// Pause is the path of the pause called name.
func (d Dir) Pause(name string) string { return filepath.Join(string(d), name) }
