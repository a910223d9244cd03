/* SPDX-License-Identifier: Apache-2.0 */
/* The interrupt controller, timers, and the platform's own devices. */
#include "vmm/arm64/fdt_internal.h"

#include "vmm/arm64/layout.h"
#include "vmm/arm64/pm.h"

#define APB_HZ 24000000 /* nothing depends on it */
#define UART_HZ 1843200
#define KEY_POWER 116 /* linux/input-event-codes.h */

/* ---- interrupts ---- */

/* interrupt-controller/arm,gic-v3.yaml */
static void add_its(struct fdt_tree *t)
{
	fdt_node(t, "msi-controller@%x", LAYOUT_ITS);
	fdt_text(t, "compatible", "arm,gic-v3-its");
	fdt_reg(t, LAYOUT_ITS, LAYOUT_ITS_SIZE);
	fdt_flag(t, "msi-controller");
	fdt_cell(t, "#msi-cells", 1);
	fdt_cell(t, "phandle", PHANDLE_ITS);
	fdt_end(t);
}

/* The second range is each CPU's own part: redistributors, or (arm,gic.yaml) the CPU interface. */
static void add_gic(struct fdt_tree *t, const struct fdt_contents *c)
{
	const uint64_t own = c->gic_v2 ? LAYOUT_GICC : LAYOUT_GICR;
	const uint64_t own_size =
	        c->gic_v2 ? LAYOUT_GICC_SIZE : (uint64_t)c->cpus * LAYOUT_GICR_EACH;

	fdt_node(t, "interrupt-controller@%x", LAYOUT_GICD);
	fdt_text(t, "compatible", c->gic_v2 ? "arm,cortex-a15-gic" : "arm,gic-v3");
	fdt_cell(t, "reg", 0, LAYOUT_GICD, 0, LAYOUT_GICD_SIZE, (uint32_t)(own >> 32),
	         (uint32_t)own, (uint32_t)(own_size >> 32), (uint32_t)own_size);
	fdt_flag(t, "interrupt-controller");
	fdt_cell(t, "#interrupt-cells", 3);
	fdt_cell(t, "#address-cells", 2);
	fdt_cell(t, "#size-cells", 2);
	fdt_flag(t, "ranges");
	fdt_cell(t, "phandle", PHANDLE_GIC);
	if (c->its)
		add_its(t);
	fdt_end(t);
}

/* A GICv2's private interrupts say which CPUs they go to, in bits 8 to 15 (arm,gic.yaml). */
static uint32_t ppi_trigger(const struct fdt_contents *c)
{
	const unsigned cpus = MIN(c->cpus, 8u);

	return c->gic_v2 ? IRQ_LEVEL | ((1u << cpus) - 1) << 8 : IRQ_LEVEL;
}

/* timer/arm,arch_timer.yaml: secure, non-secure, virtual and hypervisor's timer. It stops in no
 * state of a CPU that we have. */
static void add_timer(struct fdt_tree *t, const struct fdt_contents *c)
{
	const uint32_t trigger = ppi_trigger(c);

	fdt_node(t, "timer");
	fdt_text(t, "compatible", "arm,armv8-timer");
	fdt_cell(t, "interrupts", IRQ_PPI, LAYOUT_PPI_SECURE_TIMER, trigger, IRQ_PPI,
	         LAYOUT_PPI_PHYS_TIMER, trigger, IRQ_PPI, LAYOUT_PPI_VIRT_TIMER, trigger, IRQ_PPI,
	         LAYOUT_PPI_HYP_TIMER, trigger);
	fdt_flag(t, "always-on");
	fdt_end(t);
}

/* arm/pmu.yaml */
static void add_pmu(struct fdt_tree *t, const struct fdt_contents *c)
{
	fdt_node(t, "pmu");
	fdt_text(t, "compatible", "arm,armv8-pmuv3");
	fdt_cell(t, "interrupts", IRQ_PPI, LAYOUT_PPI_PMU, ppi_trigger(c));
	fdt_end(t);
}

void fdt_add_interrupts(struct fdt_tree *t, const struct fdt_contents *c)
{
	add_gic(t, c);
	add_timer(t, c);
	if (c->pmu)
		add_pmu(t, c);
}

/* ---- devices ---- */

/* clock/fixed-clock.yaml: PrimeCells want one. */
static void add_clock(struct fdt_tree *t)
{
	fdt_node(t, "apb-clock");
	fdt_text(t, "compatible", "fixed-clock");
	fdt_cell(t, "#clock-cells", 0);
	fdt_cell(t, "clock-frequency", APB_HZ);
	fdt_cell(t, "phandle", PHANDLE_CLOCK);
	fdt_end(t);
}

static void add_apb_clock(struct fdt_tree *t)
{
	fdt_cell(t, "clocks", PHANDLE_CLOCK);
	fdt_text(t, "clock-names", "apb_pclk");
}

/* serial/8250.yaml: registers of one byte, one after the other. */
static void add_serial(struct fdt_tree *t)
{
	fdt_node(t, "serial@%x", LAYOUT_SERIAL);
	fdt_text(t, "compatible", "ns16550a");
	fdt_reg(t, LAYOUT_SERIAL, LAYOUT_DEVICE_SIZE);
	fdt_cell(t, "interrupts", IRQ_SPI, LAYOUT_SERIAL_GSI, IRQ_LEVEL);
	fdt_cell(t, "clock-frequency", UART_HZ);
	fdt_cell(t, "reg-shift", 0);
	fdt_cell(t, "reg-io-width", 1);
	fdt_end(t);
}

/* rtc/arm,pl031.yaml */
static void add_rtc(struct fdt_tree *t)
{
	fdt_node(t, "rtc@%x", LAYOUT_RTC);
	fdt_texts(t, "compatible", "arm,pl031\0arm,primecell");
	fdt_reg(t, LAYOUT_RTC, LAYOUT_DEVICE_SIZE);
	fdt_cell(t, "interrupts", IRQ_SPI, LAYOUT_RTC_GSI, IRQ_LEVEL);
	add_apb_clock(t);
	fdt_end(t);
}

/* gpio/pl061-gpio.yaml */
static void add_gpio(struct fdt_tree *t)
{
	fdt_node(t, "gpio@%x", LAYOUT_GPIO);
	fdt_texts(t, "compatible", "arm,pl061\0arm,primecell");
	fdt_reg(t, LAYOUT_GPIO, LAYOUT_DEVICE_SIZE);
	fdt_cell(t, "interrupts", IRQ_SPI, LAYOUT_GPIO_GSI, IRQ_LEVEL);
	fdt_flag(t, "gpio-controller");
	fdt_cell(t, "#gpio-cells", 2);
	fdt_flag(t, "interrupt-controller");
	fdt_cell(t, "#interrupt-cells", 2);
	fdt_cell(t, "#address-cells", 0);
	add_apb_clock(t);
	fdt_cell(t, "phandle", PHANDLE_GPIO);
	fdt_end(t);
}

/* input/gpio-keys.yaml; the last cell: active while high. */
static void add_power_key(struct fdt_tree *t)
{
	fdt_node(t, "gpio-keys");
	fdt_text(t, "compatible", "gpio-keys");
	fdt_node(t, "key-power");
	fdt_text(t, "label", "power");
	fdt_cell(t, "linux,code", KEY_POWER);
	fdt_cell(t, "gpios", PHANDLE_GPIO, PM_POWER_PIN, 0);
	fdt_end(t);
	fdt_end(t);
}

/* rng/microsoft,vmgenid.yaml */
static void add_generation_id(struct fdt_tree *t)
{
	fdt_node(t, "rng@%x", LAYOUT_VMGENID);
	fdt_text(t, "compatible", "microsoft,vmgenid");
	fdt_reg(t, LAYOUT_VMGENID, 0x1000);
	fdt_cell(t, "interrupts", IRQ_SPI, LAYOUT_VMGENID_GSI, IRQ_EDGE);
	fdt_end(t);
}

void fdt_add_devices(struct fdt_tree *t, const struct fdt_contents *c)
{
	(void)c;
	add_clock(t);
	add_serial(t);
	add_rtc(t);
	add_gpio(t);
	add_power_key(t);
	add_generation_id(t);
}
