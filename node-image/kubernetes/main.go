// One static binary for all of Kubernetes' programs: they share most of their code, so together
// they are a third of the size of seven binaries. The name it is called by says which one runs.
//
// The packages under mains/ are the upstream main packages of the pinned version, taken from the
// module at build time (see ../build.sh) with only their package clause and func main renamed.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	kubeapiserver "kchaos/node-image/kubernetes/mains/kube-apiserver"
	kubecontrollermanager "kchaos/node-image/kubernetes/mains/kube-controller-manager"
	kubeproxy "kchaos/node-image/kubernetes/mains/kube-proxy"
	kubescheduler "kchaos/node-image/kubernetes/mains/kube-scheduler"
	kubeadm "kchaos/node-image/kubernetes/mains/kubeadm"
	kubectl "kchaos/node-image/kubernetes/mains/kubectl"
	kubelet "kchaos/node-image/kubernetes/mains/kubelet"
)

func main() {
	mains := map[string]func(){
		"kube-apiserver":          kubeapiserver.Main,
		"kube-controller-manager": kubecontrollermanager.Main,
		"kube-proxy":              kubeproxy.Main,
		"kube-scheduler":          kubescheduler.Main,
		"kubeadm":                 kubeadm.Main,
		"kubectl":                 kubectl.Main,
		"kubelet":                 kubelet.Main,
	}
	name := filepath.Base(os.Args[0])
	run, ok := mains[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s is not the name of a Kubernetes program\n", name)
		os.Exit(2)
	}
	run()
}
