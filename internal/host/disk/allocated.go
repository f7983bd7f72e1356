package disk

import "golang.org/x/sys/unix"

// Allocated returns the space in bytes that the file at path takes on its file
// system (st_blocks of stat(2), in units of 512 bytes). Blocks that are shared
// with other files count.
func Allocated(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}
