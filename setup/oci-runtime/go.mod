module kchaos/setup/oci-runtime

go 1.23
