/** Draws photographs in the browser: a sky, a sun and hills, each time others. */

const WIDTH = 3000;
const HEIGHT = 2000;
/** Hues of skies that one can believe. */
const SKIES = [205, 218, 232, 255, 285, 330, 8, 22, 195];

/** Return `count` JPEG files; `name(number)` names each. */
export async function draw(count, name) {
  const files = [];
  const first = Math.floor(Math.random() * SKIES.length);
  for (let number = 1; number <= count; number += 1) {
    const blob = await picture(SKIES[(first + 2 * number) % SKIES.length]);
    files.push(new File([blob], `${name(number)}.jpg`, { type: "image/jpeg" }));
  }
  return files;
}

function picture(hue) {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const pen = canvas.getContext("2d");
  sky(pen, hue);
  sun(pen);
  for (let layer = 0; layer < 5; layer += 1) hills(pen, hue, layer);
  grain(pen);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

function sky(pen, hue) {
  const colours = pen.createLinearGradient(0, 0, 0, HEIGHT * 0.8);
  colours.addColorStop(0, `hsl(${hue} 48% 40%)`);
  colours.addColorStop(0.55, `hsl(${hue} 55% 72%)`);
  colours.addColorStop(1, "hsl(36 80% 86%)");
  pen.fillStyle = colours;
  pen.fillRect(0, 0, WIDTH, HEIGHT);
}

function sun(pen) {
  const [x, y, radius] = [WIDTH * (0.2 + 0.6 * Math.random()), HEIGHT * (0.25 + 0.2 * Math.random()), HEIGHT * 0.5];
  const glow = pen.createRadialGradient(x, y, 0, x, y, radius);
  glow.addColorStop(0, "hsl(44 95% 96% / 1)");
  glow.addColorStop(0.14, "hsl(44 95% 92% / 0.95)");
  glow.addColorStop(0.16, "hsl(38 90% 86% / 0.4)");
  glow.addColorStop(1, "hsl(36 90% 85% / 0)");
  pen.fillStyle = glow;
  pen.fillRect(0, 0, WIDTH, HEIGHT);
}

function hills(pen, hue, layer) {
  const base = HEIGHT * (0.5 + 0.11 * layer);
  const waves = Array.from({ length: 4 }, () => [6.3 * Math.random(), 1 + (2 + layer) * Math.random(), 20 + 40 * Math.random()]);
  pen.fillStyle = `hsl(${hue - 6 * layer} ${22 + 4 * layer}% ${62 - 11 * layer}%)`;
  pen.beginPath();
  pen.moveTo(0, HEIGHT);
  for (let x = 0; x <= WIDTH; x += 12) {
    const rise = waves.reduce((sum, [phase, pace, size]) => sum + size * Math.sin(phase + (x / WIDTH) * 6.3 * pace), 0);
    pen.lineTo(x, base + rise);
  }
  pen.lineTo(WIDTH, HEIGHT);
  pen.fill();
}

/** A little noise, as a sensor adds: without it the files would be far smaller than a camera's. */
function grain(pen) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 256;
  const brush = tile.getContext("2d");
  const noise = brush.createImageData(256, 256);
  for (let at = 0; at < noise.data.length; at += 4) noise.data.set([0, 0, 0, 14 * Math.random()], at);
  brush.putImageData(noise, 0, 0);
  pen.fillStyle = pen.createPattern(tile, "repeat");
  pen.fillRect(0, 0, WIDTH, HEIGHT);
}
