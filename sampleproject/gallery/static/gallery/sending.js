/** Sends requests that change something, with Django's token against forged ones. */

/** Send a POST; resolve with `{status, body}` where 0 means that the connection failed. `onProgress` gets percents. */
export function post(url, data = null, onProgress = null) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch() does not tell how much of a body was sent
    const done = () => resolve({ status: request.status, body: request.response ?? {} });
    request.open("POST", url);
    request.responseType = "json";
    request.setRequestHeader("X-CSRFToken", cookie("csrftoken"));
    request.setRequestHeader("Accept", "application/json");
    if (onProgress) {
      request.upload.onprogress = (event) => event.lengthComputable && onProgress((event.loaded / event.total) * 100);
    }
    for (const event of ["load", "error", "abort", "timeout"]) request.addEventListener(event, done);
    request.send(data);
  });
}

function cookie(name) {
  const found = document.cookie.split("; ").find((each) => each.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}
