/** The wall: a tile for each photograph, the newest first, those being sent before all others. */

import { Tile } from "./tile.js";

export class Tiles {
  #list;
  #known = new Map();
  #seen = new Set();

  constructor(list) {
    this.#list = list;
  }

  /** Return a new tile for a file that is about to be sent. */
  begin(name) {
    const tile = new Tile(name);
    this.#list.prepend(tile.element);
    return tile;
  }

  /** Take the tile of a file that was sent for the photograph `id`. */
  adopt(tile, photo) {
    if (this.#known.has(photo.id)) {
      tile.element.remove(); // the feed was faster than the answer to the upload
      return;
    }
    this.#known.set(photo.id, tile);
    tile.show(photo);
  }

  /** Show the photographs of the feed in their order. A tile that the feed has not heard of yet stays. */
  show(photos) {
    const listed = new Set(photos.map((photo) => photo.id));
    for (const [id, tile] of this.#known) {
      if (!listed.has(id) && this.#seen.has(id)) this.#forget(id, tile);
      if (listed.has(id)) this.#seen.add(id);
    }
    let next = null;
    for (const photo of [...photos].reverse()) {
      const tile = this.#tile(photo);
      tile.show(photo);
      if (tile.element.nextElementSibling !== next || !tile.element.isConnected) {
        this.#list.insertBefore(tile.element, next);
      }
      next = tile.element;
    }
  }

  /** How many tiles there are. */
  get size() {
    return this.#list.childElementCount;
  }

  #tile(photo) {
    if (!this.#known.has(photo.id)) this.#known.set(photo.id, new Tile(photo.name));
    return this.#known.get(photo.id);
  }

  #forget(id, tile) {
    this.#known.delete(id);
    this.#seen.delete(id);
    tile.element.remove();
  }
}
