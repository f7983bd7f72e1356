package journal

import "github.com/wrenn-dev/wrenn/internal/fault"

// ReasonDataNewer is the reason of faults because of data of a later version. It
// is part of the API.
const ReasonDataNewer = "data_newer"

// ErrNewerData returns the fault for data of a later version. data is a clause
// that names the data and its version.
func ErrNewerData(data string, known int) error {
	return fault.New(fault.WrongState, ReasonDataNewer,
		"%s, and this wrenn knows formats up to %d: start the wrenn version that wrote it, or a later one", data, known)
}
