package host

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// The guest keeps the records of its processes in memory. Those of a sandbox that boots
// from its disk would be lost, so that the host keeps them: it reads them before the
// memory goes, and adds them to the answers of the booted guest.

const (
	// maxEnded is the most records that a boot leaves, and maxEndedBytes their size; the
	// oldest are dropped first. The guest wrote them.
	maxEnded      = 512
	maxEndedBytes = 1 << 20
	// endedRetention is how long a record is shown after the process has ended.
	endedRetention = 24 * time.Hour
	// reasonNoProcess is the reason of a guest that does not know a process.
	reasonNoProcess = "process_not_found"
	// reasonProcessEnded is the reason of what an ended process cannot do.
	reasonProcessEnded = "process_ended"
)

// listProcesses returns the records of the guest's processes, or none if it does not answer.
func (b *body) listProcesses(ctx context.Context) []*guestv1.ProcessRecord {
	ask, cancel := context.WithTimeout(ctx, b.mgr.cfg.GuestTimeout)
	defer cancel()
	list := &guestv1.ProcessCall{Operation: &guestv1.ProcessCall_List{List: &guestv1.ListProcesses{}}}
	answer, err := b.Guest().CallProcess(ask, list)
	if err != nil {
		b.log.WarnContext(ctx, "the processes that a boot ends are not known", "error", err)
	}
	return answer.GetProcesses()
}

// noteProcesses stores the records of the guest's processes for a boot, beside those of
// earlier boots. Those that run count as ended from now on.
func (b *body) noteProcesses(ctx context.Context, processes []*guestv1.ProcessRecord) error {
	earlier, err := readEnded(b.Dir.EndedProcesses())
	if err != nil {
		b.log.WarnContext(ctx, "the processes that an earlier boot has ended are not known", "error", err)
	}
	records := without(fresh(earlier, time.Now()), processes)
	for _, p := range processes {
		if p.GetEndedUnixNano() == 0 {
			p.EndedUnixNano, p.Signal, p.Rebooted = time.Now().UnixNano(), uint32(syscall.SIGKILL), true
		}
		p.OutputStart = p.GetOutputEnd() // the output is in the memory
		records = append(records, p)
	}
	return writeEnded(b.Dir.NextEndedProcesses(), records)
}

// fresh returns the records that are still shown at the time now.
func fresh(records []*guestv1.ProcessRecord, now time.Time) []*guestv1.ProcessRecord {
	return slices.DeleteFunc(slices.Clone(records), func(p *guestv1.ProcessRecord) bool {
		return time.Unix(0, p.GetEndedUnixNano()).Add(endedRetention).Before(now)
	})
}

// without returns the records of processes that are not among others.
func without(records, others []*guestv1.ProcessRecord) []*guestv1.ProcessRecord {
	ids := make(map[string]bool, len(others))
	for _, p := range others {
		ids[p.GetId()] = true
	}
	return slices.DeleteFunc(slices.Clone(records), func(p *guestv1.ProcessRecord) bool { return ids[p.GetId()] })
}

func writeEnded(path string, records []*guestv1.ProcessRecord) error {
	records = records[max(0, len(records)-maxEnded):]
	for {
		data, err := proto.Marshal(&guestv1.ProcessAnswer{Processes: records})
		if err != nil {
			return err
		}
		if len(data) <= maxEndedBytes {
			return durable.WriteFile(path, data, 0o600)
		}
		records = records[len(records)/2+1:]
	}
}

// readEnded returns the records in the file path, or none if it does not exist.
func readEnded(path string) ([]*guestv1.ProcessRecord, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case st.Size() > maxEndedBytes:
		return nil, errors.New("the list of ended processes is too long")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var answer guestv1.ProcessAnswer
	err = proto.Unmarshal(data, &answer)
	return answer.GetProcesses(), err
}

// takeEnded makes the stored records those of the booted sandbox.
func (m *machine) takeEnded(ctx context.Context) {
	err := os.Rename(m.Dir.NextEndedProcesses(), m.Dir.EndedProcesses())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.log.WarnContext(ctx, "the records of the processes that a boot has ended are lost", "error", err)
	}
	m.loadEnded(ctx)
}

// dropNextEnded removes the records for a boot that is not needed any more.
func (b *body) dropNextEnded(ctx context.Context) {
	if err := removeFile(b.Dir.NextEndedProcesses()); err != nil {
		b.log.WarnContext(ctx, "could not remove the records of the processes of a sandbox that runs on", "error", err)
	}
}

// loadEnded reads the records of the processes that boots have ended.
func (m *machine) loadEnded(ctx context.Context) {
	records, err := readEnded(m.Dir.EndedProcesses())
	if err != nil {
		m.log.WarnContext(ctx, "the records of the processes that a boot has ended cannot be read", "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = records
}

// endedByBoot returns the record of a process that is not in the guest any more, or nil.
func (m *machine) endedByBoot(id string) *guestv1.ProcessRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range fresh(m.ended, time.Now()) {
		if p.GetId() == id {
			return proto.CloneOf(p)
		}
	}
	return nil
}

// withEnded adds the processes that boots have ended to the guest's answer to call.
func (m *machine) withEnded(call *guestv1.ProcessCall, answer *guestv1.ProcessAnswer, err error) (*guestv1.ProcessAnswer, error) {
	if call.GetList() != nil && err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		var list []*guestv1.ProcessRecord
		for _, p := range without(fresh(m.ended, time.Now()), answer.GetProcesses()) {
			list = append(list, proto.CloneOf(p))
		}
		return &guestv1.ProcessAnswer{Processes: append(list, answer.GetProcesses()...), Commands: answer.GetCommands()}, nil
	}
	if fault.ReasonOf(err) != reasonNoProcess {
		return answer, err
	}
	var id string
	switch op := call.GetOperation().(type) {
	case *guestv1.ProcessCall_Get:
		id = op.Get.GetId()
	case *guestv1.ProcessCall_Acknowledge:
		id = op.Acknowledge.GetId()
	case *guestv1.ProcessCall_Input:
		return nil, m.refusedIfEnded(op.Input.GetId(), err)
	case *guestv1.ProcessCall_Signal:
		return nil, m.refusedIfEnded(op.Signal.GetId(), err)
	case *guestv1.ProcessCall_Resize:
		return nil, m.refusedIfEnded(op.Resize.GetId(), err)
	}
	if p := m.endedByBoot(id); p != nil {
		return &guestv1.ProcessAnswer{Processes: []*guestv1.ProcessRecord{p}}, nil
	}
	return answer, err
}

// refusedIfEnded returns the refusal of an operation that an ended process cannot do, or
// err for a process that is not known.
func (m *machine) refusedIfEnded(id string, err error) error {
	if m.endedByBoot(id) == nil {
		return err
	}
	return fault.New(fault.WrongState, reasonProcessEnded, "the process has ended: the sandbox booted from its disk")
}

// attachEnded sends the end of a process that a boot has ended, in place of err.
func (m *machine) attachEnded(id string, err error, send func(*guestv1.AttachEvent) error) error {
	if fault.ReasonOf(err) != reasonNoProcess {
		return err
	}
	p := m.endedByBoot(id)
	if p == nil {
		return err
	}
	for range 2 { // the first event, and the last
		if err := send(&guestv1.AttachEvent{Process: p}); err != nil {
			return err
		}
	}
	return nil
}
