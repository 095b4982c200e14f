// Noise that is the same each time it is asked for with the same seed.

/** A source of normally distributed numbers. */
export function normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Adds grey noise of the standard deviation `amount`, 1 being from black to white, to what is on a canvas. */
export function addNoise(canvas, amount, seed) {
  const context = canvas.getContext('2d');
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const next = normals(seed);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const by = next() * amount * 255;
    for (let channel = 0; channel < 3; channel += 1) pixels.data[at + channel] += by; // clamped by the array
  }
  context.putImageData(pixels, 0, 0);
}
