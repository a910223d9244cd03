# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What differs between the lab's architectures, for setup.sh and lab. ARCH in the environment says which one
# (this machine's otherwise); $root is set. Sets BUILD and $lab, where what belongs to it is built, and:
#
#   arch_deb             Debian's name of it
#   arch_triplet         what the names of its cross tools begin with; empty where it is this machine's
#   arch_cc, arch_run    compiler; what runs one of its programs on this machine
#   arch_qemu, arch_qemu_packages
#   arch_modules, arch_modules_guest, arch_modules_debian    kernel modules that only it has
#   arch_machine         QEMU's arguments for a host: CPU, board, IOMMU
#   arch_norm_KERNEL     seconds until a host with that kernel is up, on a quiet machine
#   arch_cmdline         the host kernel's command line
#   arch_clock           prints what the host's kernel is told of its clock; arch_clock_program: by which program
#   arch_iommu_off       what there is added to it where the kernel is to leave the IOMMU alone
#   arch_root            the root of its programs: this machine's, or an unpacked one
# shellcheck disable=SC2034,SC2054 # used by who sources this; commas of QEMU, not of lists
case $(uname -m) in
aarch64) arch_native=arm64 ;;
*) arch_native=x86 ;;
esac
ARCH=${ARCH:-$arch_native}
arch_triplet='' arch_run='' arch_cc=gcc arch_root=/
if [ "$ARCH" = "$arch_native" ]; then
	BUILD=${BUILD:-build}
else
	BUILD=${BUILD:-build/$ARCH}
fi
lab=${LAB:-$root/$BUILD/lab}

case $ARCH in
x86)
	arch_deb=amd64
	arch_qemu=qemu-system-x86_64 arch_qemu_packages=qemu-system-x86
	arch_modules="kvm-amd kvm-intel mdev button pvpanic-pci crc32c-intel msr cpuid"
	arch_modules_guest="button pvpanic-pci"
	arch_modules_debian="crc32c-intel button"
	# What QEMU cannot emulate of the model is taken off, so that it does not warn of it. Without a PIT, by
	# which Linux would measure the TSC all the same, for a while.
	arch_machine=(-M q35,kernel-irqchip=split,pit=off
		-cpu EPYC-v1,+svm,+npt,-fxsr-opt,-misalignsse,-osvw,-topoext,-nrip-save,-xsavec
		-device intel-iommu,intremap=on,caching-mode=on)
	arch_cmdline="console=ttyS0 intel_iommu=on iommu=pt tsc=reliable no_timer_check"
	arch_iommu_off="intel_iommu=off"
	arch_norm_debian=4 arch_norm_iommufd=4
	# The TSC is this machine's. Measured by the host's kernel, on a busy machine a tenth of what it is may
	# come out, and time then flies in the host.
	arch_clock_program=tsc_khz
	arch_clock() { echo "tsc_early_khz=$("$lab/bin/tsc_khz")"; }
	;;
arm64)
	arch_deb=arm64
	arch_qemu=qemu-system-aarch64 arch_qemu_packages="qemu-system-arm qemu-user"
	arch_modules=gpio_keys
	arch_modules_guest=gpio_keys
	arch_modules_debian=''
	# LAB_CPU=cortex-a72 has no VHE: KVM then is at EL2 alone, the kernel at EL1.
	arch_machine=(-M virt,virtualization=on,gic-version=3,iommu=smmuv3 -cpu "${LAB_CPU:-neoverse-n1}")
	arch_cmdline="console=ttyAMA0 iommu.passthrough=1"
	arch_iommu_off="initcall_blacklist=arm_smmu_driver_init"
	arch_norm_debian=8
	arch_clock_program=''
	arch_clock() { :; }
	;;
*)
	echo "lab: ARCH is x86 or arm64, not '$ARCH'" >&2
	exit 2
	;;
esac
if [ "$ARCH" != "$arch_native" ]; then
	arch_triplet=aarch64-linux-gnu
	arch_run=$lab/bin/qemu-aarch64
	arch_root=$root/$BUILD/sysroot
	arch_cc="$arch_triplet-gcc --sysroot=$arch_root"
fi
