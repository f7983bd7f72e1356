package jail

// Spec is one process and its jail. It travels to the launcher as JSON.
type Spec struct {
	// Binds are the files and directories that the process can open by name.
	Binds []Bind `json:"binds"`
	// Path is the program inside the jail; Argv its arguments, the first being
	// its name; Env its environment.
	Path string   `json:"path"`
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	// UID and GID are the process's user and group, Groups its supplementary groups.
	UID    int   `json:"uid"`
	GID    int   `json:"gid"`
	Groups []int `json:"groups"`
	// FileBytes is the largest size that the process can give to a file.
	FileBytes uint64 `json:"file_bytes"`
	// KVM allows the ioctls of /dev/kvm and of the files made with it.
	KVM bool `json:"kvm"`
	// Keep are the descriptors, beside 0 to 2, that the process gets, and Mounts
	// is that of the empty mount namespace. Command fills both in.
	Keep   []int `json:"keep"`
	Mounts int   `json:"mounts"`
}

// The places of a jail at which files can be bound.
const (
	ProgramDir = "/program" // a directory: the program with its libraries and data
	Memory     = "/memory"
	Kernel     = "/kernel"
	Initrd     = "/initrd"
	Null       = "/dev/null"
	KVM        = "/dev/kvm"
)

// Bind is a file, device or directory of the host that appears in the jail.
type Bind struct {
	From string `json:"from"` // on the host
	To   string `json:"to"`   // in the jail, one of the places above
	// Exec allows programs and libraries to be executed from it.
	Exec bool `json:"exec"`
	// Write allows to write to it, where its permissions do.
	Write bool `json:"write"`
	// Device makes a device node usable.
	Device bool `json:"device"`
}
