package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores, %d MB, Linux %s; load %.2f at start, %.2f at most\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.MemoryMB, r.Machine.Kernel, r.Machine.Load1,
		r.Machine.peakLoad())
	fmt.Fprintf(w, "wrenn %s, %s, guest kernel %s, acceleration %s; %s\n",
		r.Versions.Wrenn, r.Versions.VMM, r.Versions.GuestKernel, r.Acceleration, r.Date.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(w, "sandboxes of %d vCPU, %d MB memory, %d MB disk (restored ones %d); %d rounds in %.0f s; files of %d MiB\n\n",
		r.Sandbox.VCPUs, r.Sandbox.MemoryMB, r.Sandbox.DiskMB, r.RestoreSandbox.DiskMB, r.Rounds, r.TookSec, r.FileBytes>>20)
	if err := r.table(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	r.textLines(w)
	for _, v := range r.Batches {
		fmt.Fprintf(w, "%s: %d creates in %s, %d from the pool of %d, %d failed%s.\n",
			label(string(v.Shape), v.Subject), v.N, show(v.TookMS, Milliseconds), v.FromPool, v.PoolTarget, v.Failed, map[bool]string{true: ", each with a command"}[v.ToExec])
	}
	for _, d := range r.Density {
		d.text(w)
	}
	r.textAims(w)
	for _, ratio := range r.Ratios {
		fmt.Fprintf(w, "%s is %.1f times as fast as %s of the same guest (medians).\n", label(ratio.Name, ratio.Subject), ratio.Times, ratio.Than)
	}
	if r.BareRetries > 0 {
		fmt.Fprintf(w, "%d bare boots died and were tried again; their time is not counted.\n", r.BareRetries)
	}
	for _, part := range r.Missing {
		fmt.Fprintf(w, "not measured: %s\n", part)
	}
	_, err := fmt.Fprintln(w, "These results are valid for this machine at this load only.")
	return err
}

// table writes the measurements by group.
func (r *Report) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OPERATION\tSHAPE\tMEDIAN\tP95 (RATES: P5)\tMIN\tMAX\tN\tDESCRIPTION")
	for _, p := range r.panels() {
		// A title row has empty cells, so that the columns of all rows align.
		fmt.Fprintf(t, "%s\t\t\t\t\t\t\t\n", p.title)
		for _, m := range p.rows {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", m.label(), m.Shape,
				show(m.Median, m.Unit), m.showTail(), show(m.Min, m.Unit), show(m.Max, m.Unit), m.N, m.About)
		}
	}
	return t.Flush()
}

func (r *Report) textLines(w io.Writer) {
	for _, l := range r.Lines {
		if l.Fit == nil {
			fmt.Fprintf(w, "%s: no line through %d samples of one amount of memory.\n", label(l.Name, l.Subject), len(l.Points))
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", label(l.Name, l.Subject), l.describe())
	}
}

// describe formats the fitted line. Fit must not be nil.
func (l *Line) describe() string {
	return fmt.Sprintf("%.2f ms and %.3f ms per MiB written, R² %.3f, n %d",
		l.Fit.InterceptMS, l.Fit.SlopeMSPerMB, l.Fit.R2, len(l.Points))
}

func (d *Density) text(w io.Writer) {
	fmt.Fprintf(w, "%s: %d of %d sandboxes alive together after %.1f s, %d answered; available memory fell by %.1f MiB for each",
		label("density", d.Subject), d.Alive, d.Wanted, d.CreateSec, d.Answered, d.AvailableMiB)
	if d.Measured > 0 {
		fmt.Fprintf(w, ";\n  Pss %.1f MiB on average, %.1f at most, %.4f CPU seconds per second of rest (%d of them, over %.0f s)",
			d.PSSMeanMiB, d.PSSMaxMiB, d.CPUShare, d.Measured, d.RestSec)
	}
	if d.ServerCPUShare > 0 {
		fmt.Fprintf(w, "; %.4f of the server", d.ServerCPUShare)
	}
	fmt.Fprintln(w, ".")
}

// show formats a value with about three significant digits.
func show(v float64, u Unit) string {
	switch {
	case u == Milliseconds && v >= 1000:
		return fmt.Sprintf("%.2f s", v/1000)
	case u == Share:
		return fmt.Sprintf("%.4f %s", v, u)
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, u)
	default:
		return fmt.Sprintf("%.1f %s", v, u)
	}
}
