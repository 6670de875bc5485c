/** Takes files that are dropped anywhere on the page, folders included, or pasted. */

/** Call `take(files)` for what is dropped or pasted; while something is dragged the page's body says so. */
export function accept(take) {
  let depth = 0; // each element that is entered tells, and each that is left
  const dragged = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  const onFiles = (name, act) =>
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      act(event);
    });
  onFiles("dragenter", () => dragged(1));
  onFiles("dragleave", () => dragged(-1));
  onFiles("dragover", (event) => (event.dataTransfer.dropEffect = "copy"));
  onFiles("drop", async (event) => {
    dragged(-Infinity);
    take(await dropped(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files);
  });
}

async function dropped(transfer) {
  // Entries must be asked for before the first wait: the transfer is emptied when the event is over.
  const entries = Array.from(transfer.items ?? [], (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return transfer.files;
  return (await Promise.all(entries.map(files))).flat();
}

async function files(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const inside = await children(entry.createReader());
  const found = await Promise.all(inside.filter((each) => !each.name.startsWith(".")).map(files));
  return found.flat();
}

async function children(reader) {
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}
