package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// gVisor and microVM are the runtimes of a server by their names.
const (
	gVisor  Subject = "gvisor"
	microVM Subject = "microvm"
)

// Aim is a value that the project wants gVisor to have on two idle cores.
type Aim struct {
	Name string `json:"name"`
	Unit Unit   `json:"unit"`
	// Value is the measured one, Limit the largest that meets the aim, or the
	// smallest if AtLeast is set.
	Value   float64 `json:"value"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least,omitempty"`
	Met     bool    `json:"met"`
}

// megabyte is 10^6 bytes in MiB: the aims for memory and throughput are in MB.
const megabyte = 1e6 / (1 << 20)

// sumTimes is the largest ratio to native for the loop in Python.
const sumTimes = 1.5

// idleShare is the largest share of a core for all idle sandboxes together, with the
// server.
const idleShare = 0.005

// streamGrowth is the largest growth of the server's memory, in MiB, that counts as flat:
// the Go runtime returns memory in steps of some MiB.
const streamGrowth = 8

// wanted are the aims that are a median of one operation.
var wanted = []Aim{
	{Name: opPool, Limit: 12}, {Name: opRestore, Limit: 120}, {Name: opPoolExec, Limit: 25}, {Name: opExec, Limit: 12},
	{Name: opPython, Limit: 60}, {Name: opPythonPool, Limit: 60}, {Name: opPause, Limit: 100}, {Name: opResume, Limit: 130},
	{Name: opForkWindow, Limit: 80}, {Name: opForkEach, Limit: 120}, {Name: opBurstLast, Limit: 1500},
	{Name: opPublicAdded, Limit: 5}, {Name: opAttach, Limit: 20}, {Name: opPort, Limit: 200 * megabyte, AtLeast: true},
	{Name: opLargeUpload, Limit: 200 * megabyte, AtLeast: true}, {Name: opLargeDownload, Limit: 200 * megabyte, AtLeast: true},
	{Name: opLargePort, Limit: 200 * megabyte, AtLeast: true}, {Name: opStreamGrowth, Limit: streamGrowth},
	{Name: opMemory, Limit: 50 * megabyte}, {Name: opUpload, Limit: 300 * megabyte, AtLeast: true},
	{Name: opDownload, Limit: 300 * megabyte, AtLeast: true},
}

// aims compares gVisor's measurements with the aims. Aims without samples are left
// out.
func (r *Report) aims() (aims []Aim) {
	for _, a := range wanted {
		if m := r.of(gVisor, a.Name); m != nil {
			a.Unit, a.Value = m.Unit, m.Median
			aims = append(aims, a)
		}
	}
	if ours, native := r.of(gVisor, opSum), r.of(Native, opSum); ours != nil && native != nil {
		aims = append(aims, Aim{Name: opSum, Unit: ours.Unit, Value: ours.Median, Limit: sumTimes * native.Median})
	}
	for _, d := range r.Density {
		if d.Subject == gVisor && d.Measured > 0 {
			aims = append(aims, Aim{
				Name: fmt.Sprintf("CPU of %d idle sandboxes and the server", d.Measured), Unit: Share,
				Value: d.CPUShare*float64(d.Measured) + d.ServerCPUShare, Limit: idleShare,
			})
		}
	}
	for i := range aims {
		aims[i].Met = aims[i].Value <= aims[i].Limit != aims[i].AtLeast || aims[i].Value == aims[i].Limit
	}
	return aims
}

// Comparison holds the medians of an operation under Wrenn with gVisor, and with runsc
// by its command line.
type Comparison struct {
	Name   string  `json:"name"`
	Unit   Unit    `json:"unit"`
	Wrenn  float64 `json:"wrenn"`
	Runsc  float64 `json:"runsc"`
	Better bool    `json:"better"`
}

func (r *Report) comparisons() (all []Comparison) {
	for _, bare := range r.Measurements {
		ours := r.of(gVisor, bare.Name)
		if bare.Subject != Runsc || bare.N == 0 || ours == nil {
			continue
		}
		c := Comparison{Name: bare.Name, Unit: bare.Unit, Wrenn: ours.Median, Runsc: bare.Median}
		c.Better = c.Wrenn < c.Runsc != (bare.Unit == MiBPerSecond)
		all = append(all, c)
	}
	return all
}

// textAims writes the aims and the comparisons.
func (r *Report) textAims(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Aims) > 0 {
		fmt.Fprintln(t, "AIM FOR GVISOR\tLIMIT\tMEASURED\t")
	}
	for _, a := range r.Aims {
		bound := "at most "
		if a.AtLeast {
			bound = "at least "
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", a.Name, bound+show(a.Limit, a.Unit), show(a.Value, a.Unit), map[bool]string{true: "met", false: "missed"}[a.Met])
	}
	if len(r.Comparisons) > 0 {
		fmt.Fprintln(t, "GVISOR\tWRENN\tRUNSC\t")
	}
	for _, c := range r.Comparisons {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Name, show(c.Wrenn, c.Unit), show(c.Runsc, c.Unit), map[bool]string{true: "better", false: "not better"}[c.Better])
	}
	_ = t.Flush() // the writer of a report tells its error with the next line
}
