package throwaway

import "syscall"

// attributes runs a child as who, and lets the system end it with an immediate
// shutdown when this process dies.
func attributes(who *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: who, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
}
