/** Axis ticks at 1, 2 and 5 times powers of ten, and scales from data to pixels. */

export interface Scale {
  (value: number): number;
  invert(pixel: number): number;
  ticks: number[];
  domain: [number, number];
  log: boolean;
}

export function linearTicks(low: number, high: number, about = 5): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, about);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough * 0.999)!;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toFixed(decimals)));
}

/** Powers of ten; 1, 2 and 5 times them where there would be few. */
export function logTicks(low: number, high: number): number[] {
  if (!(low > 0) || !(high > low)) return [low];
  const from = Math.floor(Math.log10(low) + 1e-9);
  const to = Math.ceil(Math.log10(high) - 1e-9);
  const stride = Math.max(1, Math.ceil((to - from) / 8));
  const ticks: number[] = [];
  for (let power = from; power <= to; power += stride) {
    for (const times of to - from <= 2 ? [1, 2, 5] : [1]) {
      const tick = Number(`${times}e${power}`);
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push(tick);
    }
  }
  return ticks;
}

export function linearScale(domain: [number, number], range: [number, number], about = 5): Scale {
  const [low, high] = domain;
  const span = high - low || 1;
  const scale = (value: number) => range[0] + ((value - low) / span) * (range[1] - range[0]);
  const invert = (pixel: number) => low + ((pixel - range[0]) / (range[1] - range[0] || 1)) * span;
  return Object.assign(scale, { invert, ticks: linearTicks(low, high, about), domain, log: false });
}

export function logScale(domain: [number, number], range: [number, number]): Scale {
  const low = Math.max(domain[0], Number.MIN_VALUE);
  const high = Math.max(domain[1], low * 1.0001);
  const [a, b] = [Math.log10(low), Math.log10(high)];
  const scale = (value: number) =>
    range[0] + ((Math.log10(Math.max(value, low)) - a) / (b - a)) * (range[1] - range[0]);
  const invert = (pixel: number) => 10 ** (a + ((pixel - range[0]) / (range[1] - range[0] || 1)) * (b - a));
  return Object.assign(scale, {
    invert,
    ticks: logTicks(low, high),
    domain: [low, high] as [number, number],
    log: true,
  });
}

export function tickLabel(value: number): string {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return value.toExponential(0).replace("e+", "e");
  return String(Number(value.toPrecision(6)));
}
