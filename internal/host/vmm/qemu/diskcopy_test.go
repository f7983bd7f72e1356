package qemu

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestAbandonDiskCopyIsBounded plays a VMM that accepts the end of a disk copy and
// then answers for ever that the copy is under way. Time is the bubble's.
func TestAbandonDiskCopyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := false
		conn := script(t, func(command string, id uint64) string {
			if command == "query-jobs" {
				return fmt.Sprintf(`{"return": [{"id": %q, "status": "running"}], "id": %d}`, copyName, id)
			}
			cancelled = cancelled || command == "block-job-cancel"
			return fmt.Sprintf(`{"return": {}, "id": %d}`, id)
		})
		mon, err := newMonitor(t.Context(), conn, func(event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer mon.close()
		v := &vm{link: link{mon: mon}}
		began := time.Now()
		err = v.AbandonDiskCopy(t.Context())
		if err == nil || !cancelled {
			t.Errorf("end of a copy that does not end: got %v, cancelled %t; want an error after a cancel", err, cancelled)
		}
		if took := time.Since(began); took != answerTimeout {
			t.Errorf("end of a copy that does not end: took %v, want %v", took, answerTimeout)
		}
	})
}
